"""`penchant arena`: people vote blindly on two models' answers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from penchant.cli.answer_options import LongestAnswer, System, Temperature
from penchant.cli.app import Debug, Json, Limit, Quiet, Sets, app, run_verb
from penchant.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from penchant.evaluation.arena.contest import Contest
    from penchant.evaluation.arena.votes import Vote

_SERVE = "serve"


class _ServeByDefault(TyperGroup):
    """`penchant arena RUN` is `penchant arena serve RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._with_verb(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, self._with_verb(args))

    def _with_verb(self, args: list[str]) -> list[str]:
        named = not args or args[0] in self.commands or args[0] in ("-h", "--help")
        return args if named else [_SERVE, *args]


arena = typer.Typer(
    cls=_ServeByDefault,
    no_args_is_help=True,
    help="Vote blindly on two models' answers: penchant arena RUN, or penchant arena MODEL MODEL --prompts FILE.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(arena, name="arena")

_Arena = Annotated[
    Path | None, typer.Argument(metavar="ARENA", help="The file of votes, or its run; by default ./arena.sqlite.")
]
_Without = Annotated[
    list[str] | None, typer.Option("--without", metavar="RATER", help="Leave this rater's votes out.")
]
_Votes = Annotated[
    Path | None,
    typer.Option("--votes", help="The arena's file; by default arena.sqlite in the run, or in this folder."),
]


@arena.command(_SERVE)
def serve_arena(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL...]", help="Two models or runs; a run against its reference; or an arena."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="File of prompts that both answer before the voting begins.")
    ] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option("--answers", help="Answers that are there: a file with both, or twice a file of generate."),
    ] = None,
    votes: _Votes = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write one HTML file to send to raters, instead of serving.")
    ] = None,
    repeats: Annotated[
        float | None,
        typer.Option("--repeats", min=0, max=0.5, help="Share of pairs shown again, sides swapped; 0.125."),
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Name the models after each vote; later votes are then less blind.")
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, help="Of the page; 0 = wherever is free.")] = 0,
    max_new_tokens: LongestAnswer = 256,
    temperature: Temperature = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampling.")] = 0,
    system: System = None,
    limit: Limit = None,
    sets: Sets = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Open the voting page (the default); answers are made first where there are none."""

    def work() -> None:
        from penchant.cli.working import working
        from penchant.generation.sampling import Sampling
        from penchant.workflow.arena import ArenaWanted, prepare_arena
        from penchant.workflow.generate import Wanted

        if page is not None and (reveal or port):
            raise UsageError("--reveal and --port are not used with --page", fix="Leave them out.")
        wanted = ArenaWanted(
            models or (),
            prompts,
            answers or (),
            votes,
            repeats,
            Wanted(max_new_tokens, sampling=Sampling(temperature=temperature, seed=seed)),
            system,
            limit,
            sets or (),
        )
        path = working(
            lambda reporter, stopper: prepare_arena(wanted, reporter=reporter, stopper=stopper), quiet=quiet
        )
        if page is not None:
            _write_page(path, page, quiet=quiet, as_json=as_json)
        else:
            _serve(path, reveal=reveal, port=port, quiet=quiet, as_json=as_json)

    run_verb(work, debug, as_json)


@arena.command()
def status(
    file: _Arena = None,
    without: _Without = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what the votes so far say: win rate, whether it is decided, raters, label noise."""

    def work() -> None:
        from penchant.cli.arena_view import describe_arena
        from penchant.cli.working import say_next

        path, figures, _ = _figures(file, without or ())
        if as_json:
            print(json.dumps(figures))
            return
        print(describe_arena(figures))
        say_next(
            f"Next     penchant arena export {path} --out FOLDER   (pairs to train on, votes for judges)",
            quiet=quiet,
        )

    run_verb(work, debug, as_json)


@arena.command()
def export(
    file: _Arena = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for pairs, votes and answers.")] = Path("arena-pairs"),
    without: _Without = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write pairs to train on, and votes and answers for `penchant judge`."""

    def work() -> None:
        from penchant.cli.arena_view import describe_export
        from penchant.cli.working import say_next
        from penchant.evaluation.arena.export import write_export

        _, figures, (contest, cast) = _figures(file, without or ())
        counts = write_export(out, contest, cast, figures)
        if as_json:
            print(json.dumps(counts))
            return
        print(describe_export(counts))
        setting = figures["label_smoothing"]["setting"]
        say_next(
            f"Pairs    {out / 'pairs.jsonl'}",
            f"Judge    penchant judge longer --answers {out / 'answers.jsonl'} --votes {out / 'votes.jsonl'}",
            f"Next     penchant prepare local --source {out / 'pairs.jsonl'} --out FOLDER",
            *([f"         and train with {setting}"] if setting else []),
            quiet=quiet,
        )

    run_verb(work, debug, as_json)


@arena.command()
def read(
    files: Annotated[list[Path], typer.Argument(metavar="VOTES.json...", help="Files that raters sent back.")],
    votes: _Votes = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take the votes that came back from a page that was sent out."""

    def work() -> None:
        from dataclasses import asdict

        from penchant.cli.arena_view import describe_read
        from penchant.cli.working import say_next
        from penchant.evaluation.arena.ballots import read_ballot
        from penchant.evaluation.arena.vote_store import open_arena
        from penchant.workflow.arena import arena_path

        path = arena_path(votes)
        with open_arena(path) as opened:
            found = [(file, read_ballot(opened, file)) for file in files]
        if as_json:
            print(json.dumps([{"file": str(file), **asdict(one)} for file, one in found]))
            return
        for file, one in found:
            print(describe_read(file, one))
        say_next(f"Next     penchant arena status {path}", quiet=quiet)

    run_verb(work, debug, as_json)


def _figures(file: Path | None, without: Sequence[str]) -> tuple[Path, dict[str, Any], tuple[Contest, list[Vote]]]:
    """The arena's file, its figures, and what they rest on."""
    from penchant.evaluation.arena.figures import arena_figures
    from penchant.evaluation.arena.vote_store import open_arena
    from penchant.workflow.arena import arena_path

    path = arena_path(file)
    with open_arena(path, reading=True) as opened:
        contest, votes = opened.contest, opened.votes()
    known = {vote.rater for vote in votes}
    for name in without:
        if name not in known:
            raise UsageError(f'nobody called "{name}" has voted.{did_you_mean(name, known)}', where="--without")
    kept = [vote for vote in votes if vote.rater not in without]
    return path, arena_figures(contest.names, len(contest.entries), kept), (contest, kept)


def _write_page(path: Path, page: Path, *, quiet: bool, as_json: bool) -> None:
    from penchant.cli.working import say_next
    from penchant.evaluation.arena.ballots import new_ballot
    from penchant.evaluation.arena.vote_store import open_arena
    from penchant.reporting.arena_page import write_arena_page

    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError("a page is an HTML file", where="--page", fix="Name it FILE.html.")
    with open_arena(path) as opened:
        ballot = new_ballot(opened)
        write_arena_page(opened.contest, ballot, page)
    if as_json:
        print(json.dumps({"page": str(page), "votes": str(path)}))
        return
    print(
        f"{page} can be sent to any number of raters. It names no model; "
        f"what tells the sides apart stays in {path}."
    )
    say_next(f"Next     penchant arena read VOTES.json --votes {path}", quiet=quiet)


def _serve(path: Path, *, reveal: bool, port: int, quiet: bool, as_json: bool) -> None:
    from penchant.cli.working import say_next
    from penchant.web.arena import arena_part
    from penchant.web.serve import serve

    def ready(address: str) -> None:
        if as_json:
            print(json.dumps({"address": address, "votes": str(path)}), flush=True)
            return
        print(f"Vote at  {address}\nVotes    {path}\nCtrl+C ends the page; every vote is kept.", flush=True)

    with contextlib.suppress(KeyboardInterrupt):  # the server has closed by then
        serve([arena_part(path, reveal=reveal)], port=port, ready=ready)
    if not as_json:
        say_next(f"Next     penchant arena status {path}", quiet=quiet)
