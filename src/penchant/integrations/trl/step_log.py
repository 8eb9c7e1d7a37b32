"""TRL's log lines, made of the lines that a run writes about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penchant.integrations.trl.arguments import Course

Line = Mapping[str, Any]


@dataclass
class StepLog:
    """Makes of every step's figures what transformers' trainer logs, with TRL's meanings.

    A reward is beta times the sum of log-ratios, whatever the loss takes; a tie is no win; figures are means over
    the passes since the last line, each counting once, as TRL's are.

    Attributes:
        course: Of the run.
        beta: Of the rewards.
        means: Whether the run's log-ratios are means per token.
        tokens: Tokens of both sides of each pair, prompts included, by id.
        every: Steps between two lines; None = no lines.
        first: Whether the first step has a line.
        last: Whether the last step has one.
    """

    course: Course
    beta: float
    means: bool
    tokens: Mapping[str, int]
    every: int | None
    first: bool = False
    last: bool = False
    _losses: list[float] = field(default_factory=list)
    _figures: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    _seen: int = 0

    def add(self, line: Line, pairs: Line) -> dict[str, float] | None:
        """Take in a step; return the log line, when it is time for one.

        Args:
            line: Of `metrics.jsonl`.
            pairs: The same step's of `pairs.jsonl`.
        """
        step = int(line["step"])
        self._losses.append(line["loss"])
        self._figures.append((math.ceil(line["pairs"] / self.course.micro), self._of_pairs(line, pairs)))
        self._seen += sum(self.tokens[name] for name in pairs["id"])
        due = self.every is not None and step % self.every == 0
        if not (due or (self.first and step == 1) or (self.last and step == self.course.steps)):
            return None
        loss = math.fsum(self._losses) / len(self._losses)
        head = {"loss": loss, "grad_norm": line["grad_norm"], "learning_rate": line["learning_rate"]}
        self._losses.clear()
        return {**head, **self.rest(), "epoch": self.course.epochs_after(step), "step": step}

    def rest(self) -> dict[str, float]:
        """Return the means of what no line has told yet, and forget it; nothing where there is nothing."""
        if not self._figures:
            return {}
        passes = sum(count for count, _ in self._figures)
        names = self._figures[0][1]
        found = {name: math.fsum(n * own[name] for n, own in self._figures) / passes for name in names}
        self._figures.clear()
        return {"num_tokens": self._seen, **found}

    def _of_pairs(self, line: Line, pairs: Line) -> dict[str, float]:
        chosen, rejected = (self._rewards(pairs, side) for side in ("chosen", "rejected"))
        return {
            "rewards/chosen": _mean(chosen),
            "rewards/rejected": _mean(rejected),
            "rewards/accuracies": _mean([float(one > other) for one, other in zip(chosen, rejected, strict=True)]),
            "rewards/margins": _mean(chosen) - _mean(rejected),
            "logps/chosen": line["logps/chosen"],
            "logps/rejected": line["logps/rejected"],
        }

    def _rewards(self, pairs: Line, side: str) -> list[float]:
        tokens = pairs[f"{side}_tokens"] if self.means else [1] * len(pairs["id"])
        return [self.beta * ratio * count for ratio, count in zip(pairs[f"{side}_log_ratio"], tokens, strict=True)]


def validation_line(line: Line, course: Course, *, means: bool) -> dict[str, float]:
    """Return a line of `validation.jsonl` as TRL names it; rewards per token, which TRL has not, are left out."""
    names = ("loss", "logps/chosen", "logps/rejected")
    names += () if means else ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")
    found = {f"eval_{name}": line[name] for name in names}
    rate = line["pairs"] / max(line["seconds"], 1e-9)
    found |= {"eval_runtime": line["seconds"], "eval_samples_per_second": rate}
    return {**found, "epoch": course.epochs_after(line["step"]), "step": line["step"]}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
