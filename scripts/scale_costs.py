"""From measured runs to what a unit of work costs, and how well that predicts runs that had no part in it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.flops import Sizes
from scripts.scale_work import Lengths, Load, Model, pair_loads

FILE = Path(__file__).with_name("scale_measurements.json")
_STEP_PASSES = 3  # a backward pass calls two kernels for each of a forward pass


@dataclass(frozen=True)
class Rates:
    """What a processor needs for a unit of work, seconds.

    Attributes:
        layer_operation: Of a layer's matrix products and attention.
        head_operation: Of the head's products, its softmax included.
        element: Read or written by a linear layer; norms, activation function and additions go with it.
        call: Of a layer, whatever the number of tokens: starting its kernels.
        update: A trained parameter, of the optimizer and the gradient's norm.
    """

    layer_operation: float
    head_operation: float
    element: float
    call: float
    update: float

    def seconds(self, load: Load) -> float:
        """Return the seconds of some work, without starting it."""
        return load.layers * self.layer_operation + load.head * self.head_operation + load.elements * self.element


@dataclass(frozen=True)
class Prediction:
    """A run that was measured, and what the model says of it.

    Attributes:
        name: Of the run.
        what: In words.
        measured: Seconds: scoring the reference once, and an epoch's steps.
        predicted: Likewise.
    """

    name: str
    what: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1


def read_measurements(file: Path = FILE) -> dict[str, Any]:
    """Return what `measure_scale` wrote."""
    return json.loads(file.read_text(encoding="utf-8"))


def fit(found: dict[str, Any], dtype: str) -> Rates:
    """Return the costs that the calibration runs of a precision had.

    The cost of an update is measured by itself. The other four are those that are not negative and give the least
    sum of squared relative errors over two figures of each run: scoring the reference, and the epoch's steps.
    """
    runs = [run for run in found["runs"].values() if run["set"] == "calibration" and run["dtype"] == dtype]
    update = found["machine"]["optimizer_seconds_per_parameter"]
    rows: list[list[float]] = []
    seconds: list[float] = []
    for run in runs:
        for load, calls, updates, measured in _figures(run):
            left = measured - updates * update
            rows.append([load.layers / left, load.head / left, load.elements / left, calls / left])
            seconds.append(1.0)
    layer, head, element, call = _non_negative(np.array(rows), np.array(seconds))
    return Rates(layer, head, element, call, update)


def predictions(found: dict[str, Any], which: str) -> list[Prediction]:
    """Return prediction and measurement of every run of a set, "calibration" or "held_out"."""
    rates = {dtype: fit(found, dtype) for dtype in ("fp32", "bf16")}
    result = []
    for name, run in sorted(found["runs"].items()):
        if run["set"] != which:
            continue
        cost = rates[run["dtype"]]
        figures = _figures(run)
        predicted = sum(
            cost.seconds(load) + calls * cost.call + updates * cost.update for load, calls, updates, _ in figures
        )
        result.append(Prediction(name, _in_words(run), sum(one[-1] for one in figures), predicted))
    return result


def model_of_run(run: dict[str, Any]) -> Model:
    """Return the shape that a run had; all measured ones are tied."""
    return Model(run["shape"], Sizes(*run["sizes"]), True)


def lengths_of_run(run: dict[str, Any]) -> Lengths:
    """Return the lengths of a run's pairs."""
    return tuple((prompt, chosen, rejected) for prompt, chosen, rejected in run["lengths"])


def link_costs(found: dict[str, Any]) -> tuple[float, float]:
    """Return seconds to start an all-reduce of two processes, and bytes a second: from the least and the most."""
    few, *_, many = sorted(found["machine"]["all_reduce"], key=lambda one: one["bytes"])
    rate = (many["bytes"] - few["bytes"]) / (many["seconds"] - few["seconds"])
    return max(0.0, few["seconds"] - few["bytes"] / rate), rate


def _figures(run: dict[str, Any]) -> list[tuple[Load, float, float, float]]:
    """Work, calls of layers, updated parameters and seconds: of the reference pass, and of an epoch.

    Of repeated measurements the quicker one counts: what disturbs a machine only adds.
    """
    model, count = model_of_run(run), len(run["lengths"])
    loads = pair_loads(model, run["part"], lengths_of_run(run))
    best = {name: min(one[name] for one in run["repeats"]) for name in ("reference_seconds", "epoch_seconds")}
    first = run["repeats"][0]
    upper = model.upper_layers(run["part"])
    reference = (loads.reference * count, run["passes"] * model.sizes.layers, 0, best["reference_seconds"])
    updates = first["steps"] * first["trained_parameters"]
    return [
        reference,
        (loads.step * count, _STEP_PASSES * run["passes"] * upper, updates, best["epoch_seconds"]),
    ]


def _in_words(run: dict[str, Any]) -> str:
    part = {"full": "everything", "last5": "last 5 layers", "lora": "LoRA 16"}[run["part"]]
    return f"{run['shape']}, {part}, {run['dtype']}, {run['mix']}, {len(run['lengths'])} pairs"


def _non_negative(rows: np.ndarray, values: np.ndarray) -> Sequence[float]:
    """Least squares without negative coefficients: the best of all choices of columns."""
    best, answer = np.inf, np.zeros(rows.shape[1])
    columns = range(rows.shape[1])
    for size in range(1, rows.shape[1] + 1):
        for chosen in itertools.combinations(columns, size):
            found = np.linalg.lstsq(rows[:, chosen], values, rcond=None)[0]
            left = float(np.sum((rows[:, chosen] @ found - values) ** 2))
            if np.all(found >= 0) and left < best:
                best, answer = left, np.zeros(rows.shape[1])
                answer[list(chosen)] = found
    return [float(one) for one in answer]
