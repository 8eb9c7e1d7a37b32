"""Penchant and TRL's DPOTrainer on the same work, in turns, each run a process of its own.

    python -m bench.peers --cases 'hh-like/last5/*' --pairs 32 --repeats 3
    python -m bench.peers --cases 'hh-like/last5/fp32' --pairs 160 --modes plain --ours 1 --repeats 1   # 20 losses

A case is ROWS/PART/DTYPE. Every run's figures are appended to bench/results as they come, so an interruption
loses one run; `python -m bench.render` makes the tables of docs/benchmarks.md from them. Both sides get the same
token ids in the same order, which is checked for every batch, and train the same number of parameters, which is
checked too. Needs Linux, the extra `bench`, and a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from itertools import product, zip_longest
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.flops import read_sizes, useful
from bench.rows import MIXES, write_made_up, write_real
from bench.work import LEARNING_RATES, Work, expected_digests, write_ids
from transformers import AutoTokenizer

from penchant.models.load import resolve_model
from penchant.tokens.chat import ChatFormat, chat_format
from penchant.types import TokenizedPair
from penchant.workflow.setup import circumstances, fingerprint, read_pairs, tokenize

RESULTS = Path(__file__).parent / "results"
MODES = ("default", "plain", "precomputed", "tuned")
OURS = ("1", "3", "warm")  # epochs from cold caches; one epoch with the caches of an earlier run
CASES = [
    "/".join(case)
    for case in product(("hh-like", "long-prompts", "long-responses"), LEARNING_RATES, ("fp32", "bf16"))
]

Run = Callable[[], dict[str, Any]]


class RunFailedError(Exception):
    """A run's process ended without a result, for want of memory for example; the others go on."""


@dataclass(frozen=True)
class Case:
    """A case with its rows written: the work for one epoch, the pairs as ids, and what describes them."""

    work: Work
    pairs: list[TokenizedPair]
    facts: dict[str, Any]


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    chosen = _chosen_cases(options)
    RESULTS.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    log = RESULTS / f"peers-{now:%Y%m%dT%H%M%SZ}.jsonl"
    model = resolve_model("bundled")
    with tempfile.TemporaryDirectory() as folder:
        machine = child("bench.machine", Path(folder))
        append(log, {"kind": "session", "date": f"{now:%Y-%m-%d}", "command": command("bench.peers"), **machine})
        for name in chosen:
            _run_case(_prepare(name, options, Path(folder), model), options, Path(folder), log)
        # once more: of a machine that others share the better figure is nearer to the truth, and stricter
        append(log, {"kind": "rates", "rates": child("bench.machine", Path(folder))["rates"]})
    print(f"Written: {log}. Now: python -m bench.render")


def append(log: Path, line: dict[str, Any]) -> None:
    """Add one line to a file of results."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def command(module: str) -> str:
    """Return this process's command line as another person would type it: files by their names."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", module, *words])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=["hh-like/last5/*"], help="patterns, ROWS/PART/DTYPE")
    parser.add_argument("--rows", type=Path, help="a file of real pairs; then ROWS is its name without endings")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8, help="pairs a step")
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=MODES, help="of TRL")
    parser.add_argument("--ours", nargs="*", default=list(OURS), choices=OURS, help="of Penchant")
    parser.add_argument("--repeats", type=int, default=3, help="alternating runs of each")
    parser.add_argument("--trl-epochs", type=int, default=1, help="that are really run")
    options = parser.parse_args()
    if options.pairs % options.batch:
        parser.error("--pairs must be a multiple of --batch")
    if "warm" in options.ours and "1" not in options.ours:
        parser.error("--ours warm needs --ours 1, whose caches it uses")
    return options


def _chosen_cases(options: argparse.Namespace) -> list[str]:
    known = [*CASES, *("/".join(case) for case in product(MIXES, LEARNING_RATES, ("fp32", "bf16")))]
    if options.rows:
        name = options.rows.name.split(".")[0]
        known = ["/".join(case) for case in product((name,), LEARNING_RATES, ("fp32", "bf16"))]
    chosen = [case for case in dict.fromkeys(known) if any(fnmatch(case, pattern) for pattern in options.cases)]
    if not chosen:
        raise SystemExit(f"no such case; there are: {' '.join(dict.fromkeys(known))}")
    return chosen


def _prepare(name: str, options: argparse.Namespace, folder: Path, model: str) -> Case:
    mix, part, dtype = name.split("/")
    chat = chat_format(AutoTokenizer.from_pretrained(model))
    rows, ids = folder / f"{mix}.jsonl", folder / f"{mix}.ids.json"
    if not rows.exists():
        if options.rows:
            write_real(rows, options.rows, options.pairs)
        else:
            write_made_up(rows, MIXES[mix], options.pairs, chat)
    work = Work(model, str(rows), str(ids), part, dtype, epochs=1, batch=options.batch)
    pairs = _tokenized(work, chat)
    if len(pairs) != options.pairs:
        raise SystemExit(f"{mix}: {len(pairs)} of {options.pairs} pairs survive tokenising; choose other rows")
    write_ids(ids, pairs)
    once, epoch = useful(pairs, read_sizes(model), part)
    facts = {
        "case": {"rows": mix, "part": part, "dtype": dtype, "pairs": len(pairs), "batch": options.batch},
        "lengths": _lengths(pairs),
        "tokens": sum(2 * len(p.prompt_ids) + len(p.chosen_ids) + len(p.rejected_ids) for p in pairs),
        "flops": {"once": asdict(once), "epoch": asdict(epoch)},
    }
    return Case(work, pairs, facts)


def _tokenized(work: Work, chat: ChatFormat) -> list[TokenizedPair]:
    pairs, ledger = read_pairs(Path(work.rows), split=None)
    return list(tokenize(pairs, ledger, chat, work.config().data))


def _lengths(pairs: list[TokenizedPair]) -> dict[str, dict[str, int]]:
    columns = {
        "prompt": sorted(len(pair.prompt_ids) for pair in pairs),
        "chosen": sorted(len(pair.chosen_ids) for pair in pairs),
        "rejected": sorted(len(pair.rejected_ids) for pair in pairs),
    }
    return {
        name: {
            "mean": round(sum(column) / len(column)),
            "p90": round(quantiles(column, n=10, method="inclusive")[-1]),
            "max": column[-1],
        }
        for name, column in columns.items()
    }


def _run_case(case: Case, options: argparse.Namespace, folder: Path, log: Path) -> None:
    for repeat in range(options.repeats):
        for side, mode, epochs, run in _alternating(case, options, folder):
            label = f"{'/'.join(str(value) for value in case.facts['case'].values())} {side} {mode} ({repeat + 1})"
            print(label, flush=True)
            line = {"side": side, "mode": mode, "epochs": epochs, "repeat": repeat, "load": os.getloadavg()[0]}
            try:
                found = run()
            except RunFailedError as error:
                print(f"  failed: {error}", flush=True)
                append(log, {"kind": "failed", **line, **case.facts, "error": str(error)})
                continue
            _check_trained(found, case, side, label)
            print("  " + _summary(found), flush=True)
            append(log, {"kind": "run", **line, **case.facts, **found})


def _alternating(case: Case, options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, int, Run]]:
    """Side, mode, epochs and the run itself, in turns."""
    caches = Path(tempfile.mkdtemp(dir=folder))

    def ours(mode: str) -> tuple[str, str, int, Run]:
        epochs = 3 if mode == "3" else 1
        cache = caches / ("3" if mode == "3" else "1")  # "warm" finds what "1" left
        work = replace(case.work, epochs=epochs)
        return "penchant", "warm" if mode == "warm" else "cold", epochs, lambda: _ours(work, case, cache)

    def trl(mode: str) -> tuple[str, str, int, Run]:
        work = replace(case.work, epochs=options.trl_epochs)
        return "trl", mode, options.trl_epochs, lambda: _trl(work, mode, folder)

    ours_runs = [ours(mode) for mode in OURS if mode in options.ours]
    trl_runs = [trl(mode) for mode in MODES if mode in options.modes]
    for pair in zip_longest(ours_runs, trl_runs):
        yield from (one for one in pair if one)


def _ours(work: Work, case: Case, cache: Path) -> dict[str, Any]:
    found = child("bench.ours", cache, work.to_json())
    if found["data"] != fingerprint(case.pairs):
        raise SystemExit("Penchant trained on other ids than those that TRL gets")
    return {**found, **circumstances(work.config().engine)}


def _trl(work: Work, mode: str, cache: Path) -> dict[str, Any]:
    found = child("bench.trl_peer", cache, work.to_json(), mode)
    if found.pop("batches") != expected_digests(work, mode):
        raise SystemExit(f"TRL ({mode}) saw other ids, masks or another order than Penchant")
    return found


def _check_trained(found: dict[str, Any], case: Case, side: str, label: str) -> None:
    """Both sides train the same number of parameters; the first of a case sets it."""
    first = case.facts.setdefault("trained", found["trained_parameters"])
    if found["trained_parameters"] != first:
        raise SystemExit(f"{label}: {side} trains {found['trained_parameters']} parameters, the other {first}")
    if abs(found["losses"][0] - 0.6931) > 0.02:
        raise SystemExit(f"{label}: the first loss is {found['losses'][0]}, policy == reference gives 0.6931")


def child(module: str, cache: Path, *arguments: str) -> dict[str, Any]:
    """Run a module in a process of its own; return the JSON object that it prints last.

    Raises:
        RunFailedError: It printed none.
    """
    environment = {
        **os.environ,
        "PENCHANT_CACHE": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RunFailedError(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _summary(found: dict[str, Any]) -> str:
    steps = found["step_seconds"]
    return (
        f"{found['train_seconds']:.2f} s (reference {found['reference_seconds']:.2f}, "
        f"steps {', '.join(f'{step:.2f}' for step in steps[:4])}{' ...' if steps[4:] else ''}), "
        f"{found['peak_bytes'] / 1e9:.2f} GB, loss {found['losses'][0]:.4f} to {found['losses'][-1]:.4f}, "
        f"{found['trained_parameters'] / 1e6:.1f} million trained"
    )


if __name__ == "__main__":
    main()
