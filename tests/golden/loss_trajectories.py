"""Twenty steps of every loss at its defaults, with all weights trained and with adapters; writes the JSON.

    python -m tests.golden.loss_trajectories "why the numbers may change"

`test_loss_trajectories.py` runs the same code and compares. The start's weights come from NumPy's frozen
`RandomState` (`tests.oracles.two_models`), so that no version of a library changes them.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.oracles.two_models import models
from tests.tiny import WORDS, save_tiny, step_metrics, tiny_config, write_rows

from penchant.config import OBJECTIVE_OPTIONS, Config
from penchant.workflow.train import train_run

GOLDEN = Path(__file__).with_name("loss_trajectories.json")
STEPS, PAIRS, BATCH = 20, 16, 4
COLUMNS = ("loss", "grad_norm", "rewards/margins")
DIGITS = 9  # a float32 needs no more
MODES: dict[str, tuple[dict[str, Any], float]] = {"full": ({}, 3e-3), "lora": ({"lora_rank": 2}, 1e-2)}
NAMES = [f"{loss}, {mode}" for mode in MODES for loss in OBJECTIVE_OPTIONS]


def make_start(folder: Path) -> Path:
    """Write the model that every run begins with, and return its directory."""
    return save_tiny(folder / "start", models()[1])


def close_rows(coin: random.Random) -> list[dict[str, Any]]:
    """Return pairs of much alike responses, in every third of which the usual winner loses.

    So chosen responses fall too, and the order of the margins changes. Otherwise DPOP's penalty would stay 0 and
    AOT's pairing the pairs' own, and both would be DPO.
    """
    rows = []
    for place in range(PAIRS):
        first, second, third = (coin.choice(WORDS) for _ in range(3))
        sides = [f"{second} {third} shines", f"{third} {second} sings"]
        chosen, rejected = reversed(sides) if place % 3 == 0 else sides
        rows.append({"prompt": f"{first} {place}", "chosen": chosen, "rejected": rejected})
    return rows


def write_data(folder: Path, loss: str) -> Path:
    """Write what a loss learns from, and return the file: pairs, or for KTO single responses with a label."""
    rows = close_rows(random.Random(2))
    if loss == "kto":
        labels = [place % 3 > 0 for place in range(PAIRS)]
        rows = [
            {"prompt": row["prompt"], "completion": row["chosen" if label else "rejected"], "label": label}
            for row, label in zip(rows, labels, strict=True)
        ]
    return write_rows(folder / f"{loss}.jsonl", rows)


def configured(name: str, start: Path, **engine: Any) -> Config:
    """Return the configuration of a run, named by loss and mode."""
    loss, mode = name.split(", ")
    model, rate = MODES[mode]
    batch = 2 * BATCH if loss == "kto" else BATCH  # responses, of which a pair would give two
    return tiny_config(
        start,
        model=model,
        objective={"loss": loss},
        train={"learning_rate": rate, "batch_pairs": batch, "epochs": 99.0, "max_steps": STEPS, "seed": 1},
        engine=engine,
    )


def course(name: str, start: Path, folder: Path, **engine: Any) -> dict[str, list[float]]:
    """Return the columns of a run; without rewards where the loss has none.

    Args:
        name: One of `NAMES`.
        start: From `make_start`.
        folder: Empty, for the run and its data.
        engine: Options of the section `engine` that differ; none of them should matter.
    """
    data = write_data(folder, name.split(", ", maxsplit=1)[0])
    lines = step_metrics(train_run(configured(name, start, **engine), data, folder / "run").run)
    return {column: [line[column] for line in lines] for column in COLUMNS if column in lines[0]}


def circumstances() -> dict[str, str]:
    """Return what the numbers depend on beside this project."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers", "peft")}
    return {**versions, "machine": f"{platform.machine()} cpu, fp32, one thread"}


def main(reason: str) -> None:
    """Run everything and write it down with the reason."""
    head = {
        "command": "python -m tests.golden.loss_trajectories REASON",
        "reason": reason,
        "date": datetime.date.today().isoformat(),
        "circumstances": circumstances(),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PENCHANT_CACHE"] = str(folder / "cache")
        start, rows = make_start(folder), []
        for place, run in enumerate(NAMES):
            own = folder / str(place)
            own.mkdir()
            columns = course(run, start, own)
            rounded = {key: [float(f"{value:.{DIGITS}g}") for value in values] for key, values in columns.items()}
            rows.append(f"  {json.dumps(run)}: {json.dumps(rounded)}")
    lines.append(' "runs": {\n' + ",\n".join(rows) + "\n }")
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
