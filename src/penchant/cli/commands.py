"""One short function a verb: read the options, call the workflow, say what was made and what comes next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.cli.console import make_reporter, printable
from penchant.cli.working import first_free, say_next, working
from penchant.config import Config
from penchant.errors import DataError, UsageError
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper


def demo(
    out_or_default: Path | None,
    *,
    fast: bool,
    controls: bool,
    seed: int,
    resume: bool,
    track: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant demo`."""
    if resume and out_or_default is None:
        raise UsageError("it is not said which demo is to go on", fix="Name its run directory with --out.")
    out = out_or_default or first_free(Path("runs/demo"))
    from penchant.evaluation.house_style import SYSTEM_PROMPT

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.demo import run_demo

        return run_demo(
            out, fast=fast, controls=controls, seed=seed, resume=resume, reporter=reporter, stopper=stopper
        )

    figures = working(work, quiet=quiet, again=[["--out", str(out)], ["--resume"]], track=track)
    if as_json:
        print(json.dumps(figures))
        return
    print(f"\n{figures['verdict']['headline']}")
    for reason in figures["verdict"]["reasons"]:
        print(f"  - {printable(reason)}")
    _print_preference(figures)
    print(
        f"Trained on {figures['train_pairs']} pairs in {figures['train_seconds']:.0f} s; all in "
        f"{figures['total_seconds']:.0f} s and {figures['peak_memory_bytes'] / 1e9:.2f} GB of memory."
    )
    say_next(
        f"Report   {out / 'report.html'}",
        f"Model    {out / 'model'} (opens with transformers)",
        f'Next     penchant generate {out} --system "{SYSTEM_PROMPT}" "Why do cats purr?"',
        *([] if controls else [f"         penchant demo --controls --out {out}-controls"]),
        "         penchant train demo --data YOUR_PAIRS.jsonl --out runs/mine",
        quiet=quiet,
    )


def losses(*, markdown: bool, quiet: bool, as_json: bool) -> None:
    """Run `penchant losses`."""
    from penchant.reporting.losses_page import HEADS, loss_markdown, loss_rows, option_rows

    if as_json:
        rows = [dict(zip(HEADS, row, strict=True)) for row in loss_rows()]
        print(json.dumps({"losses": rows, "options": dict(option_rows())}))
        return
    if markdown:
        print(loss_markdown(), end="")
        return
    for name, *cells in loss_rows():
        print(name)
        for head, cell in zip(HEADS[1:], cells, strict=True):
            print(f"  {head:<22}{cell}")
    print("\nOptions of objective, who uses them, and their defaults there:")
    for option, users in option_rows():
        print(f"  {option:<22}{users}")
    say_next(
        "Next     penchant train RECIPE --data PAIRS.jsonl --set objective.loss=NAME --out runs/mine", quiet=quiet
    )


def prepare(
    data_set: str,
    out: Path,
    paths: Sequence[str],
    subset: str | None,
    revision: str | None,
    mix: str | None,
    options: dict[str, Any],
    sets: Sequence[str],
    *,
    strict: bool,
    model: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant prepare`."""
    from penchant.config import PrepareConfig, build
    from penchant.workflow.sources import named_sources

    config = build(PrepareConfig, options, sets, where="--set")
    sources = named_sources(data_set, paths, subset=subset, revision=revision, mix=mix)

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.inspect import load_chat
        from penchant.workflow.prepare import prepare as run_prepare

        return run_prepare(
            sources,
            out,
            config,
            strict=strict,
            chat=load_chat(model) if model else None,
            tokenizer=model or "",
            reporter=reporter,
            stopper=stopper,
        )

    card = working(work, quiet=quiet)
    if as_json:
        print(json.dumps(card))
        return
    dropped = sum(card["dropped"].values())
    print(f"\n{card['rows']} rows in: {card['kept']} kept, {dropped} dropped.")
    for reason, count in card["dropped"].items():
        print(f"  {count:>8}  {reason}")
    if strength := card.get("strength"):
        print(f"Strong preferences: {strength['kept']} of {strength['judged']} pairs ({strength['tagger']}).")
    for split, figures in card["splits"].items():
        print(f"{split:<8} {figures['pairs']} pairs of {figures['prompts']} prompts")
    say_next(
        f"Data     {out} (README.md says what is in it; ledger.parquet what became of every row)",
        f"Next     penchant inspect {out}",
        f"         penchant train smollm2-hh --data {out} --out runs/mine",
        quiet=quiet,
    )


def inspect(
    data: Path,
    row: str | None,
    split: str | None,
    model: str | None,
    html: Path | None,
    sets: Sequence[str],
    *,
    rows: int,
    check: bool,
    strict: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant inspect`."""
    from penchant.cli.app import fail_after_result
    from penchant.cli.pair_view import plain_inspection, print_inspection
    from penchant.config import build_config
    from penchant.reporting.inspect_page import write_inspect_page
    from penchant.workflow.inspect import check_findings

    config = build_config({}, sets, where="--set").data

    from penchant.cli.quiet_libraries import quiet_libraries
    from penchant.workflow.inspect import inspect_folder, load_chat

    quiet_libraries()  # and no Stopper: nothing is made before the end, so Ctrl+C may end it at once
    result = inspect_folder(
        data,
        split=split,
        row=row,
        rows=rows,
        chat=load_chat(model) if model else None,
        tokenizer=model or "",
        config=config,
        token_checks=model is not None,
        reporter=make_reporter(quiet=quiet),
    )
    if html is not None:
        write_inspect_page(result, html)  # before anything is printed: `| head` must not cost the page
    if as_json:
        print(json.dumps({**plain_inspection(result), "page": None if html is None else str(html)}))
    else:
        print_inspection(result, findings_only=check)
    if html is not None and not as_json:
        say_next(f"Page     {html}")
    if check:
        try:
            check_findings(result.findings, data, strict=strict)
        except DataError as error:
            fail_after_result(error)
    if as_json:
        return
    if check:
        say_next(f"Next     penchant train RECIPE --data {data} --out runs/mine", quiet=quiet)
    elif html is None:
        page = f"penchant inspect {data} --html pairs.html{'' if model else ' --model bundled'}"
        say_next(f"Next     {page}", quiet=quiet)


def train(
    recipe: str,
    data: Path,
    out: Path,
    sets: Sequence[str],
    *,
    resume: bool,
    allow_changes: Sequence[str],
    limit: int | None,
    parallel: str,
    track: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant train`."""
    from penchant.recipes import load_recipe

    config = load_recipe(recipe, sets)
    result = _trained(
        config,
        data,
        out,
        resume=resume,
        allow_changes=allow_changes,
        limit=limit,
        parallel=parallel,
        track=track,
        quiet=quiet,
    )
    if as_json:
        print(json.dumps(result))
        return
    print(f"\n{_summary(result, 'pairs')}")
    held_out = data if data.is_dir() else "HELD_OUT.jsonl"
    say_next(
        f"Model    {out / 'model'} (opens with transformers)",
        f"Report   {out / 'report.html'}",
        f"Next     penchant eval {out} --data {held_out}",
        quiet=quiet,
    )


def sft(
    recipe: str,
    data: Path,
    out: Path,
    sets: Sequence[str],
    *,
    resume: bool,
    allow_changes: Sequence[str],
    limit: int | None,
    parallel: str,
    track: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant sft`."""
    from penchant.recipes import load_recipe
    from penchant.workflow.sft import require_sft

    config = load_recipe(recipe, sets)
    require_sft(config, recipe)
    result = _trained(
        config,
        data,
        out,
        resume=resume,
        allow_changes=allow_changes,
        limit=limit,
        parallel=parallel,
        track=track,
        quiet=quiet,
    )
    if as_json:
        print(json.dumps(result))
        return
    print(f"\n{_summary(result, 'examples')}")
    start = f"--set model.path={shlex.quote(str(out / 'model'))}"
    if config.data.format != "chat":
        start += f" --set data.format={config.data.format}"
    say_next(
        f"Model    {out / 'model'} (opens with transformers)",
        f"Report   {out / 'report.html'}",
        f"Next     penchant train smollm2-hh --data PAIRS.jsonl --out {out}-dpo {start}",
        quiet=quiet,
    )


def align(
    recipe: str,
    data: Path,
    out: Path,
    sft_data: Path | None,
    sets: Sequence[str],
    *,
    resume: bool,
    limit: int | None,
    parallel: str,
    track: Sequence[str],
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant align`."""
    from penchant.recipes.stages import load_stages

    stages = load_stages(recipe, sets)

    def work(reporter: Reporter, stopper: Stopper) -> list[dict[str, Any]]:
        from penchant.training.parallel import parse_mode
        from penchant.workflow.align import align_run

        done = align_run(
            stages,
            data,
            out,
            sft_data=sft_data,
            resume=resume,
            limit=limit,
            parallel=parse_mode(parallel),
            reporter=reporter,
            stopper=stopper,
        )
        return [
            {"stage": stage.name, **(vars(stage.result) if stage.result else {}), "run": str(stage.run)}
            for stage in done
        ]

    results = working(work, quiet=quiet, again=[["--resume"]], several=True, track=track)
    if as_json:
        print(json.dumps(results))
        return
    print()
    for result in results:
        print(f"{result['stage']}: {_summary(result, 'rows') if 'steps' in result else 'finished before'}")
    last = Path(results[-1]["run"])
    held_out = data if data.is_dir() else "HELD_OUT.jsonl"
    say_next(
        f"Model    {last / 'model'} (opens with transformers)",
        *(f"Report   {Path(result['run']) / 'report.html'}" for result in results),
        f"Next     penchant eval {last} --data {held_out}",
        quiet=quiet,
    )


def plan(
    recipe: str,
    data: Path | None,
    out: Path | None,
    sft_data: Path | None,
    sets: Sequence[str],
    *,
    limit: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant plan`."""
    from rich.console import Console

    from penchant.cli.plan_view import plain_plan, show_plan, show_staged_plan
    from penchant.recipes import load_recipe
    from penchant.recipes.stages import has_stages, load_stages
    from penchant.workflow.plan import Plan
    from penchant.workflow.plan_stages import StagedPlan, plan_stages

    staged = has_stages(recipe)
    stages, config = (load_stages(recipe, sets), None) if staged else ([], load_recipe(recipe, sets))
    if not staged and sft_data is not None:
        raise UsageError("--sft-data is not used: the recipe has no stages", where=recipe)

    def work(reporter: Reporter, stopper: Stopper) -> Plan | StagedPlan:
        from penchant.workflow.plan import plan_run

        given: Any = {"data": data, "out": out, "limit": limit, "reporter": reporter, "stopper": stopper}
        if config is None:
            return plan_stages(stages, sft_data=sft_data, **given)
        return plan_run(config, **given)

    found = working(work, quiet=quiet)
    if as_json:
        print(json.dumps(plain_plan(found)))
        return
    console = Console(soft_wrap=False)
    options = f" --sft-data {sft_data}" if sft_data else ""
    options += "".join(f" --set {shlex.quote(one)}" for one in sets) + (f" --limit {limit}" if limit else "")
    if isinstance(found, StagedPlan):
        show_staged_plan(found, console)
        verb, written = "align", f"plan.json in each stage's folder of {out}"
    else:
        show_plan(found, console)
        verb, written = "sft" if config and config.objective.loss == "sft" else "train", f"{out}/plan.json"
    say_next(
        *([f"Plan     {written} (the run will grade it)"] if out else []),
        f"Next     penchant {verb} {recipe} --data {data or 'PAIRS.jsonl'} --out {out or 'runs/mine'}{options}",
        quiet=quiet,
    )


def score(
    model: str,
    data: Path,
    out: Path,
    sets: Sequence[str],
    *,
    ids: bool,
    limit: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run `penchant score`."""
    from penchant.config import build_config

    config = build_config({"model": {"path": model}, "engine": {"precision": "fp32"}}, sets, where="--set")

    def work(reporter: Reporter, stopper: Stopper) -> int:
        from penchant.workflow.score import score_file

        return score_file(config, data, out, ids=ids, limit=limit, reporter=reporter, stopper=stopper)

    count = working(work, quiet=quiet, several=True)
    if as_json:
        print(json.dumps({"pairs": count, "scores": str(out)}))
        return
    print(f"\nScored {count} pairs.")
    say_next(
        f"Scores   {out} (chosen_logps and rejected_logps: sums over the response, nats)",
        f"Next     penchant score --model ANOTHER --data {data} --out OTHER.jsonl, to compare with",
        quiet=quiet,
    )


def verify_resume(run: Path, data: Path | None, *, quiet: bool, as_json: bool) -> None:
    """Run `penchant verify-resume`."""

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.workflow.verify_resume import verify_resume as run_verify

        found = run_verify(run, data=data, reporter=reporter, stopper=stopper)
        return {**vars(found), "run": str(found.run)}

    found = working(work, quiet=quiet)
    if as_json:
        print(json.dumps(found))
        return
    print(f"\nSteps {found['first_step']} to {found['last_step']} taken once more: equal, bit for bit.")
    for line in found["compared"]:
        print(f"  {line}")
    say_next(f"Next     penchant report {run}", quiet=quiet)


def make_pairs(
    out: Path, questions: str, model: str, *, samples: int, seed: int, quiet: bool, as_json: bool
) -> None:
    """Run `penchant make-pairs`."""

    def work(reporter: Reporter, stopper: Stopper) -> tuple[int, int]:
        from penchant.data.house_style import house_style_file
        from penchant.workflow.make_pairs import make_pairs as run_make_pairs

        packaged = questions in ("train", "validation", "test")
        path = house_style_file(f"{questions}_questions") if packaged else Path(questions)
        return run_make_pairs(model, path, out, samples=samples, seed=seed, reporter=reporter, stopper=stopper)

    pairs, asked = working(work, quiet=quiet, several=True)
    if as_json:
        print(json.dumps({"pairs": pairs, "questions": asked, "out": str(out)}))
        return
    print(f"\n{pairs} pairs of {asked} questions.")
    say_next(
        f"Pairs    {out / 'pairs.jsonl'}",
        f"Samples  {out / 'samples.jsonl'} (every answer with its verdict)",
        f"Next     penchant train demo --data {out / 'pairs.jsonl'} --out runs/mine",
        quiet=quiet,
    )


def _trained(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool,
    allow_changes: Sequence[str],
    limit: int | None,
    parallel: str,
    track: Sequence[str],
    quiet: bool,
) -> dict[str, Any]:
    """Train, write the report, and return the result as plain data."""
    if allow_changes and not resume:
        raise UsageError("--allow-change is not used without --resume", fix="Add --resume, or remove it.")

    def work(reporter: Reporter, stopper: Stopper) -> dict[str, Any]:
        from penchant.processes import is_first
        from penchant.reporting.report import write_report
        from penchant.training.parallel import parse_mode
        from penchant.workflow.train import train_run

        result = train_run(
            config,
            data,
            out,
            resume=resume,
            allow_changes=allow_changes,
            limit=limit,
            parallel=parse_mode(parallel),
            reporter=reporter,
            stopper=stopper,
        )
        if is_first():
            write_report(out)
        return {**vars(result), "run": str(result.run)}

    return working(work, quiet=quiet, again=[["--resume"]], several=True, track=track)


def _summary(result: dict[str, Any], what: str) -> str:
    movement = _movement(result["first"], result["last"])
    return f"Trained on {result['pairs']} {what} in {result['train_seconds']:.0f} s: {movement}"


def _movement(first: dict[str, float], last: dict[str, float]) -> str:
    parts = [f"loss {first['loss']:.4f} -> {last['loss']:.4f}"]
    if "rewards/accuracies" in last:
        parts.append(f"last step's accuracy {last['rewards/accuracies']:.2f}")
        parts.append(f"margin {last['rewards/margins']:.3f}")
    return ", ".join(parts)


def _print_preference(figures: dict[str, Any]) -> None:
    if "preference_accuracy_policy" not in figures:
        return
    print(
        f"Held-out pairs ({figures['test_pairs']}), which response is likelier; 95 % intervals:\n"
        "  accuracy by mean log-prob   "
        f"{_percent(figures, 'preference_accuracy_reference')} -> "
        f"{_percent(figures, 'preference_accuracy_policy')}\n"
        "  accuracy by summed log-prob "
        f"{_percent(figures, 'preference_accuracy_sum_reference')} -> "
        f"{_percent(figures, 'preference_accuracy_sum_policy')}\n"
        f"  implicit-reward accuracy    {_percent(figures, 'reward_accuracy')}\n"
        f"  chosen log-prob fell in     {_percent(figures, 'chosen_logps_fell_fraction')}"
    )


def _percent(figures: dict[str, Any], key: str) -> str:
    low, high = figures[f"{key}_interval"]
    return f"{figures[key]:.1%} [{low:.1%}, {high:.1%}]"
