"""The recipe for strong HH pairs, cross-validated: five folds by prompt, several seeds, all held-out rows.

    python -m bench.strong_hh RECIPE --data hh.jsonl.gz dsp.json --work WORK [--set a.b=c ...]

Trains on the strong pairs of four folds, as `penchant train RECIPE` does, and judges on the fifth: on its strong
pairs, and on all of its pairs, unfiltered. `--train drawn` is the control: as many pairs, drawn from all of them.
No prompt is on both sides. Each run adds a line to WORK/runs.jsonl, so an interruption loses one; the summary is
printed as a table and written to bench/results/strong-hh.jsonl.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penchant.config import Config, StrengthConfig
from penchant.data.ledger import Ledger
from penchant.data.source import load_pairs
from penchant.data.splits import rank
from penchant.data.strength import judge_strength
from penchant.data.tagging import load_tagger
from penchant.evaluation.stats import Interval, cluster_bootstrap, paired_bootstrap_difference
from penchant.models.load import load_model
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import uses_means
from penchant.objective.score import score_pairs
from penchant.recipes import load_recipe
from penchant.types import LedgerEntry, PreferencePair
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import circumstances, scoring_model, tokenize
from penchant.workflow.train import train_run

FOLDS = 5
RESULTS = Path(__file__).parent / "results" / "strong-hh.jsonl"


def main() -> None:
    """Train what is not done yet, then print and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for folds, runs and their figures")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)), help="to do now")
    parser.add_argument(
        "--train", choices=("strong", "drawn"), default="strong", help="drawn: as many of all pairs"
    )
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="A.B=C")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    pairs, strong = read(asked.data)
    done = asked.work / "runs.jsonl"
    for seed in asked.seeds:
        config = load_recipe(asked.recipe, [*asked.sets, f"train.seed={seed}"])
        for fold in asked.folds:
            if not any(row["seed"] == seed and row["fold"] == fold for row in rows_of(done)):
                chosen = strong if asked.train == "strong" else drawn_from(pairs, len(strong))
                row = {"seed": seed, "fold": fold, **one_run(config, pairs, strong, chosen, fold, asked.work)}
                with done.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"seed {seed}, fold {fold}: {row['steps']} steps, margin {row['last_margin']:.4f}", flush=True
                )
    runs = [row for row in rows_of(done) if row["seed"] in asked.seeds]
    if len(runs) < FOLDS * len(asked.seeds):
        return  # the rest is for another call
    config = load_recipe(asked.recipe, asked.sets)
    summary = {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(
            ["python", "-m", "bench.strong_hh", asked.recipe, *[f"--set={s}" for s in asked.sets]]
        ),
        "trained_on": asked.train,
        "seeds": asked.seeds,
        "pairs": len(pairs),
        "strong_pairs": len(strong),
        **circumstances(config.engine),
        **summarised(runs),
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(summary) + "\n")
    show(summary)


def read(paths: Sequence[Path]) -> tuple[list[PreferencePair], set[str]]:
    """Return all pairs with one prompt and two responses, and the ids of the strong ones by the default filter."""
    tagger, rules = load_tagger("textblob"), StrengthConfig()  # type: ignore[call-arg]
    pairs: dict[str, PreferencePair] = {}
    for path in paths:
        found, _ = load_pairs(path)
        pairs |= {f"{path.name} {pair.id}": pair for pair in found if not (pair.chosen_lead or pair.rejected_lead)}
    strong = {name for name, pair in pairs.items() if judge_strength(pair, rules, tagger).keep}
    named = [
        PreferencePair(name, pair.prompt, pair.chosen, pair.rejected, line=line)
        for line, (name, pair) in enumerate(pairs.items())
    ]
    return named, strong


def drawn_from(pairs: Sequence[PreferencePair], count: int) -> set[str]:
    """Return the ids of so many pairs, drawn without regard to their strength."""
    return set(sorted((pair.id for pair in pairs), key=lambda name: rank(name, 0))[:count])


def prompt_of(pair: PreferencePair) -> str:
    """Return what pairs of one prompt share."""
    return json.dumps([turn.as_message() for turn in pair.prompt])


def fold_of(pair: PreferencePair) -> int:
    """Return the fold of a pair: that of its prompt."""
    return rank(f"fold\n{prompt_of(pair)}", 0) % FOLDS


def one_run(
    config: Config, pairs: Sequence[PreferencePair], strong: set[str], chosen: set[str], fold: int, work: Path
) -> dict[str, Any]:
    """Train on the chosen pairs of the other folds, score the fold; return figures of the run and of each pair."""
    data, out = work / f"train-{fold}.jsonl", work / "run"
    rows = [pair for pair in pairs if pair.id in chosen and fold_of(pair) != fold]
    data.write_text("".join(json.dumps(as_row(pair)) + "\n" for pair in rows), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    result = train_run(config, data, out, reporter=Reporter())
    held_out = [pair for pair in pairs if fold_of(pair) == fold]
    start = scored(config, config.model.path, held_out, work / f"reference-{fold}.json")
    policy = scored(config, str(out / "model"), held_out, None)
    facts = json.loads((out / "eval" / "training.json").read_text(encoding="utf-8"))
    names = sorted(policy.keys() & start.keys())
    by_id = {pair.id: pair for pair in held_out}
    return {
        "train_pairs": result.pairs,
        "steps": result.steps,
        "first_loss": result.first["loss"],
        "last_loss": result.last["loss"],
        "last_margin": result.last["rewards/margins"],
        "seconds": result.train_seconds,
        "findings": [finding["name"] for finding in facts["findings"]],
        "held_out": [
            {
                "strong": name in strong,
                "cluster": prompt_of(by_id[name]),
                **figures(config, policy[name], start[name]),
            }
            for name in names
        ],
    }


def as_row(pair: PreferencePair) -> dict[str, Any]:
    """Return a pair as a row that `penchant train` reads."""
    prompt = [turn.as_message() for turn in pair.prompt]
    return {"id": pair.id, "prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}


Scores = dict[str, list[float]]  # sums of chosen and rejected, nats, and their tokens


def scored(config: Config, path: str, pairs: Sequence[PreferencePair], kept: Path | None) -> Scores:
    """Return each pair's log-probabilities under a model; read from `kept` where they are there already."""
    if kept is not None and kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    loaded = load_model(path)
    ledger = Ledger(LedgerEntry(pair.source, pair.line, pair.id, "kept") for pair in pairs)
    tokenized = tokenize(pairs, ledger, loaded.chat, config.data)
    model = scoring_model(
        loaded, config.engine, max_tokens=config.data.max_tokens, trunk_layers=0, reporter=Reporter()
    )
    logps = score_pairs(model, tokenized, micro_batch_tokens=config.engine.micro_batch_tokens)
    found = {pair.id: row for pair, row in zip(tokenized, as_lists(logps), strict=True)}
    if kept is not None:
        kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def as_lists(logps: PairLogps) -> list[list[float]]:
    """Return a row of four numbers for each pair."""
    sides = (logps.chosen, logps.rejected, logps.chosen_tokens, logps.rejected_tokens)
    return torch.stack([side.double() for side in sides], dim=1).tolist()


def figures(config: Config, policy: Sequence[float], start: Sequence[float]) -> dict[str, float]:
    """Return a held-out pair's figures: who prefers the chosen response, by mean and by sum, reward and margin."""
    by_mean = [[row[0] / row[2], row[1] / row[3]] for row in (policy, start)]
    ours, theirs = by_mean if uses_means(config.objective) else (policy, start)
    margin = config.objective.beta * (ours[0] - theirs[0] - ours[1] + theirs[1])
    return {
        "policy": win(by_mean[0][0] - by_mean[0][1]),
        "reference": win(by_mean[1][0] - by_mean[1][1]),
        "policy_sum": win(policy[0] - policy[1]),
        "reference_sum": win(start[0] - start[1]),
        "longer": win(policy[2] - policy[3]),
        "margin": margin,
        "reward_accuracy": win(margin),
        "chosen_fell": float(policy[0] < start[0]),
    }


def win(difference: float) -> float:
    """Return 1 for a positive difference, 1/2 for none, else 0."""
    return 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0


NAMES = (
    "reference",
    "policy",
    "reference_sum",
    "policy_sum",
    "longer",
    "reward_accuracy",
    "margin",
    "chosen_fell",
)


def summarised(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means over seeds; intervals are clustered by prompt, the rows of all seeds drawn together."""
    found: dict[str, Any] = {
        name: float(np.mean([run[name] for run in runs]))
        for name in ("train_pairs", "steps", "first_loss", "last_loss", "last_margin", "seconds")
    }
    found["findings"] = sorted({name for run in runs for name in run["findings"]})
    found["runs"] = len(runs)
    for what, only in (("strong", True), ("all", False)):
        rows = [row for run in runs for row in run["held_out"] if row["strong"] or not only]
        clusters = [row["cluster"] for row in rows]
        part: dict[str, Any] = {"rows": len(rows) // len({run["seed"] for run in runs})}
        for name in NAMES:
            part[name] = bounds(cluster_bootstrap([row[name] for row in rows], clusters))
        for ours, theirs in (("policy", "reference"), ("policy_sum", "reference_sum")):
            before, after = [row[theirs] for row in rows], [row[ours] for row in rows]
            part[f"{ours}_gain"] = bounds(paired_bootstrap_difference(after, before, clusters))
        found[what] = part
    return found


def bounds(interval: Interval) -> list[float]:
    """Return value, low and high."""
    return [interval.value, interval.low, interval.high]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file; none when it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def show(summary: dict[str, Any]) -> None:
    """Print the summary as a Markdown table."""
    out = sys.stdout
    out.write(
        f"\n{summary['runs']} runs, {summary['train_pairs']:.0f} pairs and {summary['steps']:.0f} steps each; "
    )
    out.write(
        f"loss {summary['first_loss']:.4f} to {summary['last_loss']:.4f}; findings {summary['findings']}\n\n"
    )
    out.write(f"| | strong ({summary['strong']['rows']}) | all ({summary['all']['rows']}) |\n|---|--:|--:|\n")
    for name in (*NAMES, "policy_gain", "policy_sum_gain"):
        cells = [
            f"{v:.4f} [{low:.4f}, {high:.4f}]" for v, low, high in (summary[w][name] for w in ("strong", "all"))
        ]
        out.write(f"| {name} | {cells[0]} | {cells[1]} |\n")


if __name__ == "__main__":
    main()
