"""Writes trl_courses.json: what TRL's DPOTrainer logs in the runs of `tests.oracles.trl_courses`.

    python -m tests.golden.make_trl_courses

Needs the extra `bench`.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
os.environ |= {"OMP_NUM_THREADS": "1"}

import torch
from tests.golden.make_trl_losses import circumstances
from tests.oracles.trl_courses import COURSES, GOLDEN, logged, trainer_of


def everything() -> dict[str, Any]:
    """Return every course's log lines."""
    import trl

    found: dict[str, Any] = {}
    for name, course in COURSES.items():
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(trl, course, Path(folder))
            trainer.train()
            found[name] = logged(trainer)
    return found


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    facts = {**circumstances(), "weights": "tests.tiny"}
    parts = [' "command": "python -m tests.golden.make_trl_courses"', f' "circumstances": {json.dumps(facts)}']
    for name, lines in everything().items():
        shown = ",\n".join(f"  {json.dumps(line)}" for line in lines)
        parts.append(f" {json.dumps(name)}: [\n{shown}\n ]")
    GOLDEN.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
