"""Begin a blind arena: find the answers of two models, or make them, and write the file that votes go to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.data.prompt_sets import read_prompts
from penchant.errors import UsageError, did_you_mean
from penchant.evaluation.arena.answers import joined_entries, read_entries
from penchant.evaluation.arena.contest import MOST_REPEATS, REPEATS, Contest, Entry
from penchant.evaluation.arena.vote_file import is_arena
from penchant.evaluation.arena.vote_store import create_arena, open_arena
from penchant.web.arena_shelf import ARENA_FILE, SAMPLES, contest_of_run
from penchant.workflow.generate import Wanted, generate_file, with_system
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import run_config
from penchant.workflow.speaker import load_speaker, speaker_config
from penchant.workflow.stopping import Stopper


@dataclass(frozen=True)
class ArenaWanted:
    """What an arena is to be about.

    Attributes:
        models: Two models or run directories; one run: its policy against its reference; or an arena's file.
        prompts: File of prompts for both to answer; None = answers that are there.
        answers: Files of answers that are there, see `penchant.evaluation.arena.answers`.
        votes: The arena's file; None = beside the run, or in the current folder.
        repeats: Share of the prompts that come again; None = `REPEATS`, or what an arena that is there has.
        generation: How answers are made.
        system: A system turn before prompts that have none.
        limit: Only the first prompts.
        overrides: `a.b=c` changes of every model's configuration.
    """

    models: Sequence[str] = ()
    prompts: Path | None = None
    answers: Sequence[Path] = ()
    votes: Path | None = None
    repeats: float | None = None
    generation: Wanted = Wanted()  # noqa: RUF009 - frozen, and holds nothing that changes
    system: str | None = None
    limit: int | None = None
    overrides: Sequence[str] = ()


def arena_path(named: str | Path | None) -> Path:
    """Return the arena's file that a name stands for: a file, or a run directory; None = the current folder's."""
    path = Path(named) if named is not None else Path(ARENA_FILE)
    return path / ARENA_FILE if path.is_dir() else path


def prepare_arena(
    wanted: ArenaWanted, *, reporter: Reporter | None = None, stopper: Stopper | None = None
) -> Path:
    """Return the arena's file: one that is there already for the same answers, or a new one.

    Answers are made once, and kept beside the arena in `NAME-answers/`; when they were interrupted, the same
    request goes on where they end.

    Raises:
        UsageError: It is not said what to compare, or the file is an arena of something else.
        DataError: Prompts or answers cannot be used.
        ModelError: A model cannot be loaded.
        DiskError: The file cannot be written.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    if len(wanted.models) > 2:
        raise UsageError("an arena compares two models", fix="Name two, or one run.")
    repeats = REPEATS if wanted.repeats is None else wanted.repeats
    if not 0 <= repeats <= MOST_REPEATS:
        raise UsageError(f"is a share between 0 and {MOST_REPEATS}", where="--repeats")
    target = _target(wanted)
    alone = not (wanted.models or wanted.answers) or _names_target(wanted, target)
    _check_used(wanted, alone=alone)
    if alone:
        _check_same(target, {}, wanted.repeats)
        return target
    origin = _origin(wanted)
    if target.exists():
        _check_same(target, origin, wanted.repeats)
        return target
    if wanted.answers:
        entries, names = _given_answers(wanted)
    elif wanted.prompts is not None:
        entries, names = _made_answers(wanted, wanted.prompts, target, reporter, stopper)
    else:
        create_arena(target, _own_answers(wanted, repeats))
        return target
    create_arena(target, Contest(names, entries, repeats, origin=origin))
    return target


def _target(wanted: ArenaWanted) -> Path:
    if wanted.votes is not None:
        return wanted.votes
    if len(wanted.models) == 1 and not wanted.answers:
        only = Path(wanted.models[0])
        if only.is_dir() or is_arena(only):
            return arena_path(only)
    return Path(ARENA_FILE)


def _names_target(wanted: ArenaWanted, target: Path) -> bool:
    """Whether the only model that is named is the arena itself."""
    return len(wanted.models) == 1 and Path(wanted.models[0]) == target and is_arena(target)


def _origin(wanted: ArenaWanted) -> dict[str, Any]:
    """What an arena is of, to tell one from another."""
    said: dict[str, Any] = {
        "models": [str(Path(name).resolve()) if Path(name).exists() else name for name in wanted.models],
        "answers": [str(path.resolve()) for path in wanted.answers],
        "limit": wanted.limit,
    }
    if wanted.prompts is not None:
        said |= {
            "prompts": str(wanted.prompts.resolve()),
            "system": wanted.system,
            "generation": wanted.generation.identity(),
        }
    return said


def _check_used(wanted: ArenaWanted, *, alone: bool) -> None:
    """Check that nothing is asked for that is not heeded."""
    given = {
        "--system": wanted.system is not None,
        "--set": bool(wanted.overrides),
        "--max-new-tokens, --temperature or --seed": wanted.generation != Wanted(),
        "--prompts": alone and wanted.prompts is not None,
        "--limit": alone and wanted.limit is not None,
    }
    unused = [name for name, said in given.items() if said and (alone or wanted.prompts is None)]
    if unused:
        why = "an arena that is there is opened as it is" if alone else "no answers are made without --prompts"
        raise UsageError(f"not used here: {why}", where=unused[0], fix="Leave it out, or begin another arena.")


def _check_same(target: Path, origin: dict[str, Any], repeats: float | None) -> None:
    with open_arena(target, reading=True) as arena:
        found = {**arena.contest.origin, "repeats": arena.contest.repeats}
    origin = {**origin, **({} if repeats is None else {"repeats": repeats})}
    others = [
        f"{key} was {found.get(key)}, is {value}" for key, value in origin.items() if found.get(key) != value
    ]
    if others:
        raise UsageError(
            "this arena is about something else: " + "; ".join(others),
            where=str(target),
            fix="Name another file with --votes; or the arena alone, to go on voting in it.",
        )


def _given_answers(wanted: ArenaWanted) -> tuple[tuple[Entry, ...], tuple[str, str]]:
    if len(wanted.models) == 1:
        raise UsageError("answers are those of two models", where="--answers", fix="Name both, or none.")
    if wanted.prompts is not None:
        raise UsageError("--prompts is not used with --answers", fix="Give one of the two.")
    entries, names = read_entries(wanted.answers, limit=wanted.limit)
    return entries, (wanted.models[0], wanted.models[1]) if wanted.models else names


def _made_answers(
    wanted: ArenaWanted, prompts_file: Path, target: Path, reporter: Reporter, stopper: Stopper
) -> tuple[tuple[Entry, ...], tuple[str, str]]:
    sides = _sides(wanted)
    folder = target.with_name(f"{target.stem}-answers")
    files = [folder / name for name in ("first.jsonl", "second.jsonl")]
    for (model, config), file in zip(sides, files, strict=True):
        reporter.note(f"Answers of {model}")
        generate_file(
            load_speaker(model, config),
            prompts_file,
            file,
            wanted.generation,
            system=wanted.system,
            limit=wanted.limit,
            resume=True,
            reporter=reporter,
            stopper=stopper,
        )
    prompts = with_system(read_prompts(prompts_file, limit=wanted.limit).prompts, wanted.system)
    return joined_entries(prompts, *files), _told_apart([model for model, _ in sides])


def _own_answers(wanted: ArenaWanted, repeats: float) -> Contest:
    """The answers that a run ended with."""
    run = Path(wanted.models[0])
    if len(wanted.models) != 1 or not (run / SAMPLES).is_file():
        raise UsageError(
            "it is not said what the models are to answer" + _near(wanted.models[0]),
            fix="Name a file of prompts with --prompts, or answers that are there with --answers.",
        )
    return contest_of_run(run, limit=wanted.limit, repeats=repeats)


def _near(word: str) -> str:
    if Path(word).exists():
        return ""
    hint = did_you_mean(word, ("serve", "status", "export", "read"))
    return f'; "{word}" is no run.{hint}' if " Did" in hint else ""


def _sides(wanted: ArenaWanted) -> list[tuple[str, Config]]:
    """Both models with the configuration that each is asked by; a run's reference is asked as the run is."""
    if len(wanted.models) == 2:
        return [(model, speaker_config(model, wanted.overrides)) for model in wanted.models]
    config = run_config(Path(wanted.models[0]), wanted.overrides) if len(wanted.models) == 1 else None
    if config is None:
        raise UsageError(
            "an arena compares two models; of one finished run its policy with its reference",
            fix="penchant arena MODEL MODEL --prompts FILE",
        )
    return [(wanted.models[0], config), (config.model.reference or config.model.path, config)]


def _told_apart(names: Sequence[str]) -> tuple[str, str]:
    one, other = (Path(name).name or name for name in names)
    return (
        (one, other) if one != other else (names[0], f"{names[1]} (second)" if names[0] == names[1] else names[1])
    )
