"""Learning curves of some runs in one picture.

python bench/plot_curves.py docs/hh-curves.svg "learning rate 2e-5"=runs/hh "6e-5"=runs/hh-6e-5
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from penchant.reporting.charts import COLOURS, DASHES
from penchant.reporting.curves import smoothed

PANELS = {
    "loss": "loss, nats",
    "rewards/accuracies": "reward accuracy",
    "rewards/margins": "reward margin",
    "logps/chosen": "chosen log-prob, nats",
}
WIDTH = 9  # steps that a smoothed point averages


def draw(runs: dict[str, Path]) -> Figure:
    """Return the curves, each step as a faint line and its running mean on top."""
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (key, label) in zip(panels.flat, PANELS.items(), strict=True):
        for (name, run), colour, dashes in zip(runs.items(), COLOURS, DASHES, strict=False):
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            steps = np.array([line["step"] for line in lines])
            values = np.array([line[key] for line in lines], dtype=np.float64)
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(steps, smoothed(values, WIDTH), color=colour, linestyle=dashes, label=name)
        axes.set_ylabel(label)
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("step")
    panels[0, 0].legend(frameon=False)
    return figure


def main() -> None:
    """Draw the runs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="LABEL=RUN")
    options = parser.parse_args()
    runs = {label: Path(run) for label, _, run in (word.rpartition("=") for word in options.runs)}
    matplotlib.rcParams |= {"svg.hashsalt": "penchant", "svg.fonttype": "none"}  # same runs, same file
    draw(runs).savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
