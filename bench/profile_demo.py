"""Where the time of the demo's training goes: seconds by part, and the operators behind them.

    python bench/profile_demo.py > bench/profile_demo.md

Trains the demo's recipe on the packaged pairs for some steps, once with timers around the parts of a step and once
under torch's own profiler. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from penchant.data.house_style import house_style_file
from penchant.models.load import resolve_model
from penchant.objective import pair_model
from penchant.objective.pair_model import PairModel
from penchant.recipes import load_recipe
from penchant.training import loop
from penchant.workflow.setup import describe_machine
from penchant.workflow.train import train_run


class Timers:
    """Seconds spent in wrapped functions, the time of a wrapped function inside another subtracted from it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Replace a function by itself with a timer around it."""
        function: Callable[..., Any] = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - started
                self.seconds[name] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        setattr(
            owner,
            attribute,
            staticmethod(timed) if isinstance(owner, type) and _is_static(owner, attribute) else timed,
        )


def _is_static(owner: type, attribute: str) -> bool:
    return isinstance(owner.__dict__[attribute], staticmethod)


def _train(steps: int) -> list[dict[str, float]]:
    os.environ.pop("PENCHANT_CACHE", None)
    config = load_recipe("demo", [f"train.max_steps={steps}", f"model.path={resolve_model('bundled')}"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PENCHANT_CACHE"] = str(Path(folder) / "cache")  # or the second run finds the first's
        out = Path(folder) / "run"
        train_run(config, house_style_file("pairs"), out)
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def _by_part(steps: int) -> tuple[dict[str, float], list[dict[str, float]]]:
    timers = Timers()
    parts = (
        (PairModel, "trunk", "frozen layers, once for reference and policy"),
        (PairModel, "forward", "trained layers, forward (reference and policy)"),
        (PairModel, "collate", "packing"),
        (pair_model, "pair_losses_once", "head, forward and gradients"),
        (pair_model, "token_logps", "head, scoring the reference"),
        (torch.Tensor, "backward", "trained layers, backward"),
        (loop, "_update", "clipping and AdamW"),
    )
    for owner, attribute, name in parts:
        timers.wrap(owner, attribute, name)
    started = time.perf_counter()
    lines = _train(steps)
    timers.seconds["loading, hashing, tokenizing, saving, the rest"] = (
        time.perf_counter() - started - sum(timers.seconds.values())
    )
    return timers.seconds, lines


def _by_operator(steps: int, rows: int) -> list[tuple[str, float, int]]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        _train(steps)
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return [(event.key, event.self_cpu_time_total / 1e6, event.count) for event in events[:rows]]


def main() -> None:
    """Print the profile as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24)
    steps = parser.parse_args().steps
    operators = _by_operator(steps, rows=14)  # before the timers, which would count as operators' callers
    seconds, lines = _by_part(steps)
    total = sum(seconds.values())
    print("# Where the time of the demo's training goes\n")
    tokens, step_seconds = (sum(line[key] for line in lines) / steps for key in ("tokens", "seconds"))
    print(
        f"`python bench/profile_demo.py --steps {steps}`, {datetime.date.today()}: {describe_machine('cpu')}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}. {steps} steps of 8 pairs and the "
        f"scoring of their reference; {tokens:.0f} packed tokens and {step_seconds:.2f} s a step.\n"
    )
    print("| part | seconds | share |\n|---|--:|--:|")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"| {name} | {value:.1f} | {value / total:.0%} |")
    print("\nThe same under torch's profiler (which slows it), by operator's own time:\n")
    print("| operator | seconds | calls |\n|---|--:|--:|")
    for name, value, calls in operators:
        print(f"| `{name}` | {value:.1f} | {calls} |")


if __name__ == "__main__":
    main()
