"""How often the intervals of `penchant plan` hold: plans, then trains, and writes what came of it.

    python -m bench.plan_coverage bench/results/plan-coverage.jsonl [--tuning] [--before "flock LOCK"]

Each of ten configurations is planned and then trained in processes of their own, with a cache of their own, on the
bundled model and the packaged pairs. The widths of the intervals were chosen on the few configurations of
`--tuning`, which are not among the ten.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from penchant.data.house_style import house_style_file
from penchant.models.load import resolve_model
from penchant.workflow.grading import QUANTITIES
from penchant.workflow.setup import describe_machine

TUNING: dict[str, list[str]] = {
    "last 5, fp32": ["model.last_layers=5", "engine.precision=fp32"],
    "last 5, bf16": ["model.last_layers=5", "engine.precision=bf16"],
    "full, fp32, 4 pairs": ["model.last_layers=null", "engine.precision=fp32", "train.batch_pairs=4"],
    "LoRA, bf16": ["model.last_layers=null", "model.lora_rank=16", "engine.precision=bf16"],
}
TEST: dict[str, list[str]] = {
    "last 5, bf16, 16 pairs, 2048 tokens": [
        "model.last_layers=5",
        "engine.precision=bf16",
        "train.batch_pairs=16",
        "engine.micro_batch_tokens=2048",
    ],
    "last 2, fp32, 128 tokens": ["model.last_layers=2", "engine.precision=fp32", "data.max_tokens=128"],
    "last 10, bf16": ["model.last_layers=10", "engine.precision=bf16"],
    "last 8, fp32, 4 pairs": ["model.last_layers=8", "engine.precision=fp32", "train.batch_pairs=4"],
    "last 1, bf16, 1 pair a pass": [
        "model.last_layers=1",
        "engine.precision=bf16",
        "engine.micro_batch_tokens=128",
    ],
    "full, bf16": ["model.last_layers=null", "engine.precision=bf16"],
    "full, fp32, 2 pairs, 96 tokens": [
        "model.last_layers=null",
        "engine.precision=fp32",
        "train.batch_pairs=2",
        "data.max_tokens=96",
    ],
    "LoRA 4, fp32, 4 pairs": [
        "model.last_layers=null",
        "model.lora_rank=4",
        "engine.precision=fp32",
        "train.batch_pairs=4",
    ],
    "LoRA 32 in the last 6, bf16, 12 pairs": [
        "model.last_layers=6",
        "model.lora_rank=32",
        "engine.precision=bf16",
        "train.batch_pairs=12",
    ],
    "last 5, bf16, two epochs": [
        "model.last_layers=5",
        "engine.precision=bf16",
        "train.epochs=2",
        "train.max_steps=8",
    ],
}
STEPS = 6
LIMIT = 96  # rows; two epochs get as many as four steps need


def one(name: str, sets: list[str], model: str, before: list[str]) -> dict[str, Any]:
    """Plan and train one configuration; return what was predicted and measured."""
    limit = 32 if "epochs" in name else LIMIT
    with tempfile.TemporaryDirectory() as folder:
        options = ["demo", "--data", str(house_style_file("pairs")), "--out", f"{folder}/run", "--quiet", "--json"]
        for setting in [f"model.path={model}", f"train.max_steps={STEPS}", *sets]:
            options += ["--set", setting]
        options += ["--limit", str(limit)]
        environment = {**os.environ, "PENCHANT_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1"}
        verbs = " && ".join(
            f"{shlex.join([sys.executable, '-m', 'penchant', verb, *options])} > {folder}/{verb}.json"
            for verb in ("plan", "train")
        )
        subprocess.run([*before, "sh", "-c", verbs], check=True, env=environment)
        plan = json.loads(Path(folder, "plan.json").read_text(encoding="utf-8"))
        facts = json.loads(Path(folder, "run", "eval", "training.json").read_text(encoding="utf-8"))
    return {
        "name": name,
        "sets": sets,
        "limit": limit,
        "grade": facts["plan"],
        "parts": plan["parts"],
        "stages": plan["stages"],
    }


def circumstances() -> dict[str, Any]:
    """Return machine and versions."""
    names = ("penchant", "torch", "transformers", "peft")
    return {
        "machine": describe_machine("cpu"),
        "versions": {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in names}},
    }


def main() -> None:
    """Run all configurations and print how many intervals held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--before", default="", help="a command that each run is given to, such as a lock")
    options = parser.parse_args()
    works = TUNING if options.tuning else TEST
    model = resolve_model("bundled")
    lines = [{"circumstances": circumstances(), "tuning": options.tuning}]
    for name, sets in works.items():
        line = one(name, sets, model, shlex.split(options.before))
        lines.append(line)
        options.result.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
        for quantity in QUANTITIES:
            found = line["grade"][quantity]
            share = found["measured"] / found["value"]
            print(f"{name:<40} {quantity:<14} measured / predicted {share:.3f} held: {found['held']}")
    for quantity in QUANTITIES:
        held = sum(line["grade"][quantity]["held"] for line in lines[1:])
        print(f"{quantity}: {held} of {len(works)}")


if __name__ == "__main__":
    main()
