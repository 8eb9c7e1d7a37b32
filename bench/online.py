"""Three rounds against one at equal generated tokens, on a task that can be verified, with controls beside.

    python -m bench.online --work WORK [--task instructions] [--seeds 0 1 2] [--tokens 120000]
                           [--steps 48] [--held-out validation] [--reference fixed] [--replay 1] [--set a.b=c ...]

The tasks are the house style of the demo, and made-up prompts with one verifiable instruction each. Both arms
begin with the bundled model and the recipe `demo`: `rounds` spends a third of the tokens in each of three rounds,
each from the model of the one before, and `one` spends all of them in one. Pairs are made alike. With
`--steps` both arms also take so many optimizer steps in all, over the pairs as often as that needs. Controls:

    longer    the pairs of `one`, over and over, for as many steps as the three rounds took together
    sft       likelihood of the chosen responses of `one` (recipe demo-likelihood)
    random    the pairs of `one` with labels by a coin (recipe demo-random-labels)
    cuts      the start model's answers cut mechanically after one, two, three sentences (house style only)

Every part is resumable: a call goes on from where another was stopped. With both arms of a seed done its table is
printed, and a line is added to bench/results/online.jsonl; with several seeds one more, of all of them together.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.cli.console import PlainReporter
from penchant.config import Config
from penchant.data.atomic import write_json
from penchant.data.on_policy_pairs import PairRules
from penchant.evaluation.instructions.made import made_prompts
from penchant.evaluation.stats import mcnemar_exact, paired_bootstrap_difference, wilson
from penchant.evaluation.style_figures import cut_answers, judged
from penchant.models.memory import release_memory
from penchant.recipes import load_recipe
from penchant.types import Prompt
from penchant.workflow.online.figures import evaluate_round, judged_answers
from penchant.workflow.online.judging import PASS_MARKS, judge_named, mark_of
from penchant.workflow.online.prompts import named_prompts, parted
from penchant.workflow.online.rounds import run_online
from penchant.workflow.online.settings import REFERENCES, OnlineSettings, ReferenceChoice
from penchant.workflow.run_directory import finished
from penchant.workflow.setup import circumstances
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

RESULTS = Path(__file__).parent / "results" / "online.jsonl"
ROUNDS = 3
PARTS = ("rounds", "one", "longer", "sft", "random")
CONTROLS = {"longer": "demo", "sft": "demo-likelihood", "random": "demo-random-labels"}
RULES = PairRules(choice="best-worst", per_prompt=4)
MADE = {"train": 734, "validation": 120, "test": 260}  # prompts with instructions: one to each packaged question


@dataclass(frozen=True)
class Experiment:
    """One seed: where it lies, and what both arms have in common."""

    work: Path
    task: str
    seed: int
    tokens: int
    questions: str
    steps: int | None
    reference: ReferenceChoice
    replay: float
    sets: tuple[str, ...]

    def prompts(self) -> tuple[list[Prompt], list[Prompt]]:
        """To sample from in the order of the rounds, and held out."""
        if self.task == "house-style":
            sides = [named_prompts(f"house-style:{split}") for split in ("train", self.questions)]
        else:
            sides = [made_prompts(split, MADE[split]) for split in ("train", self.questions)]
        return parted(*sides, seed=self.seed)

    def config(self, recipe: str = "demo", *sets: str) -> Config:
        """The recipe of an arm or control."""
        return load_recipe(recipe, [f"train.seed={self.seed}", *self.sets, *sets])

    def config_of_arm(self, part: str) -> Config:
        """The recipe of an arm: its part of the steps, if their number is given."""
        if self.steps is None:
            return self.config()
        rounds = ROUNDS if part == "rounds" else 1
        return self.config("demo", f"train.max_steps={self.steps // rounds}", f"train.epochs={self.steps}")

    def folder(self, part: str) -> Path:
        """Where a part of the experiment lies."""
        return self.work / f"seed-{self.seed}" / part

    def settings(self, part: str) -> OnlineSettings:
        """The loop of an arm."""
        rounds = ROUNDS if part == "rounds" else 1
        return OnlineSettings(
            rounds=rounds,
            tokens_per_round=self.tokens // rounds,
            max_new_tokens=self.config().eval.max_new_tokens,
            rules=RULES,
            reference=self.reference,
            replay=self.replay if rounds > 1 else 0.0,
            seed=self.seed,
        )


def main() -> None:
    """Do the parts that are asked for and not done yet; with both arms done, print and write the seed's line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for rounds and runs")
    parser.add_argument("--task", choices=("house-style", "instructions"), default="house-style")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--tokens", type=int, default=120_000, help="generated tokens of an arm")
    parser.add_argument("--held-out", choices=("test", "validation"), default="test")
    parser.add_argument("--steps", type=int, help="of each arm in all; without it the recipe's")
    parser.add_argument("--reference", choices=REFERENCES, default="moved")
    parser.add_argument(
        "--replay", type=float, default=0.0, help="of the rounds: earlier pairs added to their own"
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="A.B=C")
    asked = parser.parse_args()
    experiments = [
        Experiment(
            asked.work,
            asked.task,
            seed,
            asked.tokens,
            asked.held_out,
            asked.steps,
            asked.reference,
            asked.replay,
            tuple(asked.sets),
        )
        for seed in asked.seeds
    ]
    for experiment in experiments:
        with Stopper() as stopper:
            for part in asked.parts:
                do_part(experiment, part, stopper)
        done = parts_done(experiment)
        if {"rounds", "one"} <= done:
            line = summary(experiment, done)
            show(line)
            keep(line)
    if len(experiments) > 1:
        common = set.intersection(*map(parts_done, experiments))
        if {"rounds", "one"} <= common:
            keep(show_pooled(pooled(experiments, common)))


def parts_done(experiment: Experiment) -> set[str]:
    """Return the parts of a seed that are done."""
    return {part for part in PARTS if (experiment.folder(part) / "done.json").is_file()}


def keep(line: dict[str, Any]) -> None:
    """Add a line to the results."""
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def do_part(experiment: Experiment, part: str, stopper: Stopper) -> None:
    """Train and measure an arm or a control, if that is not done."""
    folder = experiment.folder(part)
    if (folder / "done.json").is_file():
        return
    prompts, held_out = experiment.prompts()
    judge, reporter = judge_named(experiment.task), PlainReporter()
    mark = mark_of(judge)
    reporter.note(f"Seed {experiment.seed}: {part}")
    if part in CONTROLS:
        config, start = control_config(experiment, part), experiment.folder("one") / "round-0"
        if not finished(folder / "train"):
            pairs = experiment.folder("one") / "round-1" / "pairs.jsonl"
            train_run(config, pairs, folder / "train", resume=True, reporter=reporter, stopper=stopper)
            release_memory()
        model = str(folder / "train" / "model")
        evaluate_round(
            model,
            config.model.path,
            held_out,
            judge,
            mark,
            config,
            folder,
            [start],
            reporter,
            stopper,
        )
        facts = json.loads((folder / "train" / "eval" / "training.json").read_text(encoding="utf-8"))
        figures = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
        write_json(folder / "done.json", {"steps": facts["steps"], **figures})
        shutil.rmtree(folder / "train" / "model")  # its figures stay; 650 MB that nobody will load do not
        return
    state = run_online(
        experiment.config_of_arm(part),
        experiment.settings(part),
        prompts,
        held_out,
        judge,
        folder,
        mark=mark,
        resume=True,
        reporter=reporter,
        stopper=stopper,
    )
    write_json(folder / "done.json", state["rounds"])


def control_config(experiment: Experiment, part: str) -> Config:
    """The recipe of a control: as many steps as the arm that it stands beside."""
    rounds = json.loads((experiment.folder("rounds") / "done.json").read_text(encoding="utf-8"))
    one = json.loads((experiment.folder("one") / "done.json").read_text(encoding="utf-8"))
    steps = sum(row["steps"] for row in rounds[1:]) if part == "longer" else one[1]["steps"]
    epochs = max(1, -(-steps // max(1, one[1]["steps"])) + 1)
    return experiment.config(CONTROLS[part], f"train.max_steps={steps}", f"train.epochs={epochs}")


def summary(experiment: Experiment, done: set[str]) -> dict[str, Any]:
    """Return the figures of a seed: both arms, the controls done, the last round tested against each."""
    rounds, one = (json.loads((experiment.folder(arm) / "done.json").read_text()) for arm in ("rounds", "one"))
    mark = PASS_MARKS[experiment.task]
    last = passes(experiment.folder("rounds") / f"round-{len(rounds) - 1}", mark)
    others = {"one": experiment.folder("one") / "round-1"} | {
        name: experiment.folder(name) for name in CONTROLS if name in done
    }
    beside = {
        name: {
            **told(last, passes(folder, mark)),
            **json.loads((folder / "eval.json").read_text(encoding="utf-8")),
        }
        for name, folder in others.items()
    }
    if experiment.task == "house-style":
        beside |= beside_cuts(experiment.folder("one") / "round-0", last)
    return {
        "date": datetime.date.today().isoformat(),
        "task": experiment.task,
        "steps_asked": experiment.steps,
        "reference": experiment.reference,
        "replay": experiment.replay,
        "seed": experiment.seed,
        "tokens_asked": experiment.tokens,
        "held_out": experiment.questions,
        "sets": list(experiment.sets),
        **circumstances(experiment.config().engine),
        "rounds": rounds,
        "one": one,
        "beside": beside,
    }


def beside_cuts(start: Path, last: Sequence[bool]) -> dict[str, Any]:
    """Return how often the start model's answers pass when cut, and the last round tested against that."""
    rows = [json.loads(line) for line in (start / "answers.jsonl").open(encoding="utf-8")]
    texts = [row["prompt"] for row in rows]
    answers = [judged(row["prompt"], row["text"], finished=row["finished"]) for row in rows]
    beside = {}
    for count in (1, 2, 3):
        cut = [answer.passes for answer in cut_answers(texts, answers, count)]
        found = wilson(sum(cut), len(cut))
        figures = {"rate": found.value, "rate_interval": [found.low, found.high]}
        beside[f"start cut after {count}"] = {**told(last, cut), **figures}
    return beside


def pooled(experiments: Sequence[Experiment], done: set[str]) -> dict[str, Any]:
    """Return the last round's rate over all seeds, and how far it lies above each other part's.

    A question is asked once a seed, so differences are resampled by question.
    """
    mark = PASS_MARKS[experiments[0].task]
    last = [(experiment, experiment.folder("rounds") / f"round-{ROUNDS}") for experiment in experiments]
    ours = [passed for _, folder in last for passed in passes(folder, mark)]
    questions = [name for _, folder in last for name in names_of(folder)]
    found: dict[str, Any] = {
        "pooled": [experiment.seed for experiment in experiments],
        "task": experiments[0].task,
        "tokens_asked": experiments[0].tokens,
        "held_out": experiments[0].questions,
        "rate": sum(ours) / len(ours),
        "beside": {},
    }
    for part in ("one", *sorted(done & CONTROLS.keys())):
        folders = [e.folder("one") / "round-1" if part == "one" else e.folder(part) for e in experiments]
        theirs = [passed for folder in folders for passed in passes(folder, mark)]
        above = paired_bootstrap_difference(
            [float(passed) for passed in ours], [float(passed) for passed in theirs], questions
        )
        figures = {"rate": sum(theirs) / len(theirs), "above": above.value, "interval": [above.low, above.high]}
        found["beside"][part] = figures
    return found


def names_of(folder: Path) -> list[str]:
    """Return the held-out questions of a folder in their order."""
    with (folder / "answers.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line)["id"] for line in file]


def show_pooled(found: dict[str, Any]) -> dict[str, Any]:
    """Print what all seeds come to together, and return it."""
    print(f"\nSeeds {', '.join(map(str, found['pooled']))} together: the last round passes {found['rate']:.1%}")
    for name, row in found["beside"].items():
        low, high = (100 * bound for bound in row["interval"])
        print(f"  {name} {row['rate']:.1%}: {100 * row['above']:+.1f} points [{low:+.1f}, {high:+.1f}]")
    return found


def passes(folder: Path, mark: float) -> list[bool]:
    """Return which held-out answers of a folder pass."""
    return [score >= mark for _, score in judged_answers(folder)]


def told(ours: Sequence[bool], theirs: Sequence[bool]) -> dict[str, Any]:
    """Return on how many questions the last round alone passes, the other alone, and the exact McNemar p."""
    better = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    worse = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    return {"rounds_only": better, "other_only": worse, "p": mcnemar_exact(better, worse)}


def show(line: dict[str, Any]) -> None:
    """Print a seed's figures as Markdown."""
    print(f"\nSeed {line['seed']}, {line['rounds'][0]['held_out']} held-out questions\n")
    print(
        "| | passes | tokens | pairs | steps | words | KL | p against the last round |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    named = [("start", line["rounds"][0])]
    named += [(f"round {row['round']} of {ROUNDS}", row) for row in line["rounds"][1:]]
    named += [("one round", {**line["one"][1], **line["beside"]["one"]})]
    named += [(name, row) for name, row in line["beside"].items() if name != "one"]
    for name, row in named:
        low, high = row["rate_interval"]
        cells = [f"{100 * row['rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"]
        cells += [str(row.get(key, "")) for key in ("tokens", "pairs", "steps")]
        cells += [f"{row[key]:.3g}" if key in row else "" for key in ("mean_words", "kl_to_reference", "p")]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
