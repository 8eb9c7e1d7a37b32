"""The demo with one thing changed at a time: the runs behind docs/questions.md.

    python -m bench.questions --work WORK [--only NAME ...] [--set a.b=c ...]

Every arm trains as `penchant train demo` does on the demo's pairs, in a process of its own, and is judged as
`penchant demo` judges: 260 test questions, 221 held-out pairs, packaged prose. An arm that is done is not done
again. With all that are asked for done, the table is printed and bench/results/questions.json is written, from
which `python -m bench.render` writes the page's table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.data.atomic import write_json
from penchant.data.house_style import house_style_file
from penchant.evaluation.stats import mcnemar_exact, paired_bootstrap_difference
from penchant.recipes import load_recipe
from penchant.training.telemetry import peak_memory_bytes
from penchant.workflow.evaluate import evaluate, subject_of
from penchant.workflow.make_pairs import read_questions
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import describe_machine
from penchant.workflow.train import train_run

RESULTS = Path(__file__).parent / "results" / "questions.json"
FLIP_SEED = 20261122
KEPT = (
    "pass_rate_policy",
    "pass_rate_policy_interval",
    "pass_rate_reference",
    "degenerate_rate_policy",
    "mean_words_policy",
    "reward_accuracy",
    "reward_accuracy_interval",
    "chosen_logps_fell_fraction",
    "kl_to_reference",
    "perplexity_policy",
    "perplexity_reference",
)


@dataclass(frozen=True)
class Arm:
    """One run.

    Attributes:
        name: Of its folder and its line.
        sets: What differs from the recipe `demo`.
        limit: Only so many of the training pairs, the first ones; None = all.
        flipped: Share of the training pairs whose labels are swapped.
    """

    name: str
    sets: tuple[str, ...] = ()
    limit: int | None = None
    flipped: float = 0.0


ARMS = (
    Arm("demo"),
    Arm("beta-0.01", ("objective.beta=0.01",)),
    Arm("beta-0.3", ("objective.beta=0.3",)),
    Arm("beta-1", ("objective.beta=1",)),
    Arm("rate-2e-5", ("train.learning_rate=2e-5",)),
    Arm("rate-3e-4", ("train.learning_rate=3e-4",)),
    Arm("layers-1", ("model.last_layers=1",)),
    Arm("layers-15", ("model.last_layers=15",)),
    Arm("layers-30", ("model.last_layers=30",)),
    Arm("no-reference", ("objective.loss=cpo",)),
    Arm("pairs-96", ("train.epochs=4",), limit=96),
    Arm("flipped-25", flipped=0.25),
    Arm("flipped-25-smoothing", ("objective.label_smoothing=0.25",), flipped=0.25),
)


def main() -> None:
    """Do the arms that are asked for and not done yet, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs and their figures")
    parser.add_argument("--only", nargs="*", choices=[arm.name for arm in ARMS], help="these arms alone")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="A.B=C", help="for every arm")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own: peak memory is the arm's
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    arms = [arm for arm in ARMS if asked.only is None or arm.name in asked.only]
    if asked.one is not None:
        run_arm(next(arm for arm in ARMS if arm.name == asked.one), asked.work, asked.sets)
        return
    for arm in arms:
        if not figures_of(asked.work, arm.name).is_file():
            sets = [word for each in asked.sets for word in ("--set", each)]
            command = [sys.executable, "-m", "bench.questions", "--work", str(asked.work), "--one", arm.name]
            subprocess.run([*command, *sets], check=True)
            print(f"{arm.name}: done", flush=True)
    found = [json.loads(figures_of(asked.work, arm.name).read_text(encoding="utf-8")) for arm in arms]
    rows = [{**row, **against(row, found[0])} for row in found]
    print(table(rows))
    shown = [{name: value for name, value in row.items() if name != "passes"} for row in rows]
    head = {"date": datetime.date.today().isoformat(), "sets": asked.sets, "machine": describe_machine("cpu")}
    write_json(RESULTS, {**head, "arms": shown})


def figures_of(work: Path, name: str) -> Path:
    """Return where an arm's figures lie."""
    return work / f"{name}.json"


def run_arm(arm: Arm, work: Path, sets: Sequence[str]) -> None:
    """Train and judge one arm, keep its figures, and let go of its weights."""
    out, reporter = work / arm.name, Reporter()
    config = load_recipe("demo", [*arm.sets, *sets])
    if not (out / "model").is_dir():
        shutil.rmtree(out, ignore_errors=True)
        train_run(config, training_pairs(arm, work), out, reporter=reporter)
    training_bytes = peak_memory_bytes()
    figures, answers = evaluate(
        subject_of(str(out), None),
        data=house_style_file("test_pairs"),
        questions=read_questions(house_style_file("test_questions")),
        reporter=reporter,
    )
    training = json.loads((out / "eval" / "training.json").read_text(encoding="utf-8"))
    kept = {name: figures[name] for name in KEPT}
    facts = {name: training[name] for name in ("steps", "first_loss", "train_seconds") if name in training}
    passes = {row["id"]: row["policy_verdict"] == "pass" for row in answers}
    findings = [finding["name"] for finding in training.get("findings", [])]
    write_json(
        figures_of(work, arm.name),
        {
            "name": arm.name,
            "sets": arm.sets,
            "pairs": arm.limit,
            "flipped": arm.flipped,
            **facts,
            **kept,
            "last_loss": last_loss(out),
            "training_peak_bytes": training_bytes,
            "findings": findings,
            "passes": passes,
        },
    )
    shutil.rmtree(out / "model")  # its figures stay; the weights of seventeen runs are 11 GB


def training_pairs(arm: Arm, work: Path) -> Path:
    """Return the file that an arm trains on: the demo's pairs, some of them, or some with their labels swapped."""
    packaged = house_style_file("pairs")
    if arm.limit is None and not arm.flipped:
        return packaged
    rows = [json.loads(line) for line in packaged.read_text(encoding="utf-8").splitlines()]
    draw = random.Random(FLIP_SEED)
    flips = set(draw.sample(range(len(rows)), round(arm.flipped * len(rows))))
    for place in flips:
        rows[place] |= {"chosen": rows[place]["rejected"], "rejected": rows[place]["chosen"]}
    path = work / f"{arm.name}.pairs.jsonl"
    kept = rows if arm.limit is None else random.Random(FLIP_SEED).sample(rows, arm.limit)
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return path


def last_loss(run: Path) -> float:
    """Return the mean loss of a run's last ten steps."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    return sum(losses[-10:]) / len(losses[-10:])


def against(row: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return how an arm differs from the demo on the same questions: points with an interval, exact McNemar p."""
    names = sorted(base["passes"])
    ours, theirs = ([bool(each["passes"][name]) for name in names] for each in (row, base))
    gained = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    gap = paired_bootstrap_difference([float(a) for a in ours], [float(b) for b in theirs], names)
    return {
        "points_against_demo": 100 * gap.value,
        "points_against_demo_interval": [100 * gap.low, 100 * gap.high],
        "mcnemar_p_against_demo": mcnemar_exact(gained, lost),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown, one line an arm."""
    head = ("arm", "in the style", "against the demo, points", "p", "degenerate", "words", "reward accuracy")
    head += ("chosen fell", "KL", "last loss", "peak")
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for row in rows:
        low, high = (100 * bound for bound in row["pass_rate_policy_interval"])
        less, more = row["points_against_demo_interval"]
        cells = [
            row["name"],
            f"{100 * row['pass_rate_policy']:.1f} % [{low:.1f}, {high:.1f}]",
            f"{row['points_against_demo']:.1f} [{less:.1f}, {more:.1f}]",
            f"{row['mcnemar_p_against_demo']:.1g}",
            f"{100 * row['degenerate_rate_policy']:.1f} %",
            f"{row['mean_words_policy']:.0f}",
            f"{100 * row['reward_accuracy']:.1f} %",
            f"{100 * row['chosen_logps_fell_fraction']:.1f} %",
            f"{row['kl_to_reference']:.3f}",
            f"{row['last_loss']:.3f}",
            f"{row['training_peak_bytes'] / 1e9:.2f} GB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
