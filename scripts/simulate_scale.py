"""What a run of preference alignment would take on other machines than this one: time, memory, disk, cost.

    python scripts/simulate_scale.py --parameters 1.7e9 --pairs 61000 --gpus 8 --gpu h100 --price 2.5
    python scripts/simulate_scale.py --page            # write docs/scale.md's tables and pictures anew

Nothing here runs on a GPU, and nothing about one was measured: their figures are data sheets times an efficiency
that is assumed, so each comes as a range. docs/scale.md says what is measured and how far it can be trusted.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this also runs by its path

from scripts.scale_costs import read_measurements
from scripts.scale_devices import GPUS
from scripts.scale_model import Setup
from scripts.scale_page import write_page
from scripts.scale_report import CPUS, device_of, in_words, predict, read_lengths
from scripts.scale_work import PARTS, model_of


def main() -> None:
    """Predict the run that the command line describes, or write the page anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write docs/scale.md's tables and pictures")
    parser.add_argument("--parameters", type=float, default=1.7e9)
    parser.add_argument("--part", choices=PARTS, default="full", help="what is trained")
    parser.add_argument("--pairs", type=float, default=61_000)
    parser.add_argument("--lengths", choices=["hh_rlhf", "ultrafeedback"], default="ultrafeedback")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch", type=int, help="pairs a step (128, and at least 4 a device)")
    parser.add_argument("--gpus", type=int, default=8, help="devices")
    parser.add_argument(
        "--gpu", choices=[*GPUS, *CPUS], default="h100", help="cpu-*: the machine that was measured"
    )
    parser.add_argument("--price", type=float, default=0.0, help="of a device and hour, in any currency")
    parser.add_argument("--checkpoint-minutes", type=float, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = read_measurements()
    if options.page:
        write_page(found)
        return
    for name in ("parameters", "pairs", "epochs", "gpus", "checkpoint_minutes"):
        if not getattr(options, name) > 0 or not math.isfinite(getattr(options, name)):
            parser.error(f"--{name.replace('_', '-')} is a number above zero")
    if options.batch is not None and options.batch < 1:
        parser.error("--batch is a number above zero")
    setup = Setup(
        model_of(options.parameters),
        options.part,
        read_lengths(options.lengths),
        options.pairs,
        options.gpus,
        device_of(options.gpu, found)[0],
        options.epochs,
        options.batch,
        options.price,
        options.checkpoint_minutes,
    )
    facts = predict(setup, options.gpu, found)
    print(json.dumps(facts, indent=1) if options.json else in_words(facts, options))


if __name__ == "__main__":
    main()
