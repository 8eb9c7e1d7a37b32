"""How Penchant's cost grows: with the number of pairs, with their length, and in the vocabulary head alone.

    python -m bench.scaling

Last five layers, fp32, one epoch from cold caches, each run a process of its own. The figures go to bench/results;
`python -m bench.render` makes the table and fits the exponent of seconds over tokens.
"""

from __future__ import annotations

import argparse
import datetime
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from bench.peers import RESULTS, append, child, command
from bench.rows import MIXES, Lengths, write_made_up
from bench.work import Work
from transformers import AutoTokenizer

from penchant.batching.pair_batch import Group, pack_groups
from penchant.config import ObjectiveConfig
from penchant.models.load import resolve_model
from penchant.objective.head import Head, pair_losses_once
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import pair_objective
from penchant.objective.pair_facts import PairFacts
from penchant.tokens.chat import chat_format

PAIRS = (32, 64, 128)
LENGTHS = ((64, 32), (128, 64), (256, 128))  # prompt and each response, tokens
HEAD_ROWS = (512, 1024, 2048)
_WIDTH, _VOCABULARY = 576, 49152


def main() -> None:
    """Run the series."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="*", default=list(PAIRS), help="multiples of 8")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    log = RESULTS / f"scaling-{now:%Y%m%dT%H%M%SZ}.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        machine = child("bench.machine", Path(folder))
        append(log, {"kind": "session", "date": f"{now:%Y-%m-%d}", "command": command("bench.scaling"), **machine})
        for series, what, lengths, count in _series(options.pairs):
            tokens, seconds = _train(lengths, count, options.repeats)
            _note(log, series, what, tokens, seconds)
    for rows in HEAD_ROWS:
        _note(log, "vocabulary head, forward and backward", f"{rows} rows", rows, _head(rows, options.repeats))
    print(f"Written: {log}. Now: python -m bench.render")


def _series(pairs: list[int]) -> Iterator[tuple[str, str, tuple[Lengths, ...], int]]:
    for count in pairs:
        yield "pairs, hh-like", f"{count} pairs", MIXES["hh-like"], count
    for prompt, response in LENGTHS:
        lengths = Lengths(prompt, 0), Lengths(response, 0), Lengths(response, 0)
        yield "length", f"{pairs[0]} pairs of {prompt}/{response}", lengths, pairs[0]


def _train(lengths: tuple[Lengths, ...], count: int, repeats: int) -> tuple[int, float]:
    """Packed tokens of the epoch, and the median of its seconds."""
    model = resolve_model("bundled")
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder) / "rows.jsonl"
            write_made_up(rows, lengths, count, chat_format(AutoTokenizer.from_pretrained(model)))
            work = Work(model, str(rows), "", "last5", "fp32", epochs=1, batch=8)
            runs.append(child("bench.ours", Path(folder), work.to_json()))
    return runs[0]["packed_tokens"], median(run["train_seconds"] for run in runs)


def _head(rows: int, repeats: int) -> float:
    torch.manual_seed(0)
    hidden = torch.randn(rows, _WIDTH, requires_grad=True)
    # scores of unit size: with larger ones most probabilities underflow, and denormal numbers are far slower
    weight = (torch.randn(_VOCABULARY, _WIDTH) * _WIDTH**-0.5).requires_grad_()
    ids = torch.randint(_VOCABULARY, (rows,)).tolist()
    groups = [
        Group((0,), (tuple(ids[at : at + 64]), tuple(ids[at + 64 : at + 128]))) for at in range(0, rows, 128)
    ]
    batch, count = pack_groups(groups), len(groups)
    reference = PairLogps(*(torch.full((count,), -600.0) for _ in range(2)), *torch.full((2, count), 64.0))
    config = ObjectiveConfig()  # type: ignore[call-arg]
    objective = pair_objective(config, reference, PairFacts(torch.full((count,), 1 / count)))
    seconds = []
    for _ in range(2 * repeats + 1):
        started = time.perf_counter()
        pair_losses_once(hidden, Head(weight, None, "fp32"), batch, objective).total.backward()
        seconds.append(time.perf_counter() - started)
        hidden.grad = weight.grad = None
    return median(seconds[1:])


def _note(log: Path, series: str, what: str, tokens: int, seconds: float) -> None:
    print(f"{series}, {what}: {tokens} tokens, {seconds:.2f} s", flush=True)
    point = {"kind": "scaling", "series": series, "what": what, "tokens": tokens, "seconds": seconds}
    append(log, {**point, "load": os.getloadavg()[0]})


if __name__ == "__main__":
    main()
