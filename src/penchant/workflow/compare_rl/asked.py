"""What a comparison is asked for, as values that its processes read from one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from penchant.config import Config, build_config
from penchant.data.atomic import write_json
from penchant.data.on_policy_pairs import PairRules
from penchant.errors import UsageError, did_you_mean
from penchant.evaluation.judges.parse import parse_judge
from penchant.evaluation.judges.protocol import ByScore, Scorer
from penchant.types import Prompt
from penchant.workflow.online.judging import mark_of
from penchant.workflow.online.own_answers import OwnAnswers, check_ranges
from penchant.workflow.online.prompts import named_prompts, parted
from penchant.workflow.online.settings import OnlineSettings, changes, prompts_digest

Method = Literal["dpo", "online", "grpo", "rloo"]
METHODS: tuple[Method, ...] = get_args(Method)
TITLES: dict[Method, str] = {"dpo": "DPO", "online": "online DPO", "grpo": "GRPO", "rloo": "RLOO"}
BY_TRL: tuple[Method, ...] = ("grpo", "rloo")
TASK_FILE = "task.json"
_MOST_CHOICE_PROMPTS = 100
_CHOICE_SHARE = 5  # at most one prompt in so many is kept back to choose a learning rate by


@dataclass(frozen=True)
class Arm:
    """One thing that is trained and measured.

    Attributes:
        method: Which.
        learning_rate: Of a method of TRL; None for ours, which take the recipe's.
    """

    method: Method
    learning_rate: float | None = None

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.method if self.learning_rate is None else f"{self.method}-{self.learning_rate:g}"


@dataclass(frozen=True)
class RlSettings(OwnAnswers):
    """What all methods have in common, and what the two kinds of method need beside; see `OwnAnswers`.

    Its samples are the group of GRPO and RLOO, too.

    Attributes:
        tokens: Generated tokens that each method may spend on training, end tokens included.
        rounds: Of online DPO, each with an equal part of the tokens.
        prompts_per_step: Prompts of an optimizer step of GRPO and RLOO.
        kl_beta: Their weight of the KL to the start; None: TRL's own, 0 for GRPO and 0.05 for RLOO.
        choice_prompts: Whether prompts are kept back from training, for all methods, to choose a learning rate by.

    Raises:
        UsageError: A value is out of its range.
    """

    tokens: int
    rounds: int = 3
    prompts_per_step: int = 8
    kl_beta: float | None = None
    choice_prompts: bool = False

    def __post_init__(self) -> None:
        self.online(self.rounds)
        check_ranges(
            ("--tokens", self.tokens, self.tokens >= self.rounds, "at least one a round"),
            ("--prompts-per-step", self.prompts_per_step, self.prompts_per_step >= 1, "at least 1"),
            ("--kl-beta", self.kl_beta, (self.kl_beta or 0.0) >= 0, "at least 0"),
        )

    def online(self, rounds: int) -> OnlineSettings:
        """Return the settings of a loop that spends the tokens in so many rounds."""
        return OnlineSettings(rounds, tokens_per_round=max(1, -(-self.tokens // rounds)), **self.own_answers())


@dataclass(frozen=True)
class Asked:
    """A whole comparison but for its methods, of which more may be asked for later.

    Attributes:
        config: The recipe.
        settings: The options.
        names: `prompts`, `held_out`, `system` and `judge` as they were typed, None where they were not.
        prompts: To train on, in the order in which they are taken.
        choice: Kept back to choose a learning rate by; may be empty.
        held_out: To measure by.
        judge: The verifier: score of a judgement and reward of a policy gradient.
        mark: The score from which on an answer passes, None without one.
    """

    config: Config
    settings: RlSettings
    names: Mapping[str, str | None]
    prompts: Sequence[Prompt]
    choice: Sequence[Prompt]
    held_out: Sequence[Prompt]
    judge: Scorer
    mark: float | None

    def as_task(self) -> dict[str, Any]:
        """Return what `read_task` reads, and what a later call must find unchanged."""
        sides = {"prompts": self.prompts, "choice": self.choice, "held_out": self.held_out}
        return {
            "config": self.config.resolved(),
            "settings": asdict(self.settings),
            "names": dict(self.names),
            "digests": {name: prompts_digest(side) for name, side in sides.items()},
        }


def asked_for(config: Config, settings: RlSettings, names: Mapping[str, str | None]) -> Asked:
    """Read the prompts and the judge that the names stand for.

    Raises:
        UsageError: The judge gives no scores, or is not known; the prompts are too few for a step.
        DataError: A file of prompts cannot be used.
    """
    judge = verifier(names["judge"] or "")
    ours = named_prompts(names["prompts"] or "", names["system"])
    theirs = names["held_out"]
    prompts, held_out = parted(
        ours, None if theirs is None else named_prompts(theirs, names["system"]), seed=settings.seed
    )
    kept = min(_MOST_CHOICE_PROMPTS, len(prompts) // _CHOICE_SHARE) if settings.choice_prompts else 0
    prompts, choice = prompts[: len(prompts) - kept], prompts[len(prompts) - kept :]
    if settings.choice_prompts and not choice:
        raise UsageError(
            "there are too few prompts to keep some back, by which a learning rate could be chosen",
            where="--learning-rates",
            fix="Give one rate, or more prompts.",
        )
    if len(prompts) < settings.prompts_per_step:
        raise UsageError(
            f"a step takes {settings.prompts_per_step} prompts, and there are {len(prompts)}",
            where="--prompts-per-step",
            fix="Give more prompts, or take fewer a step.",
        )
    return Asked(config, settings, names, prompts, choice, held_out, judge, mark_of(judge))


def verifier(name: str) -> Scorer:
    """Return the judge of this name that gives each answer a score.

    Raises:
        UsageError: There is no such judge, or it only compares answers.
    """
    judge = parse_judge(name)
    if isinstance(judge, ByScore):
        return judge.scorer
    raise UsageError(
        f'"{name}" compares answers and gives them no score, and a policy gradient needs a reward',
        where="--judge",
        fix="Take one that scores, such as house-style, instructions or reward:MODEL.",
    )


def write_task(asked: Asked, out: Path, *, resume: bool) -> None:
    """Write `task.json`, or check that it says what is asked now.

    Raises:
        UsageError: There is a comparison here, and it is not to be resumed or is another one.
    """
    file, task = out / TASK_FILE, asked.as_task()
    if not file.is_file():
        write_json(file, task)
        return
    if not resume:
        raise UsageError(
            "there is a comparison here already", where=str(out), fix="Give --resume, or choose another --out."
        )
    changed = changes(json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(task)))
    if changed:
        raise UsageError(
            f"this comparison was begun with something else: {', '.join(changed)}",
            where=str(out),
            fix="Go on with what it was begun with, or choose another --out.",
        )


def read_task(out: Path) -> Asked:
    """Return what `write_task` wrote, its prompts read anew.

    Raises:
        UsageError: The prompts have changed since.
        PenchantError: See `asked_for`.
    """
    task = json.loads((out / TASK_FILE).read_text(encoding="utf-8"))
    settings = {**task["settings"], "rules": PairRules(**task["settings"]["rules"])}
    asked = asked_for(
        build_config(task["config"], where=str(out / TASK_FILE)), RlSettings(**settings), task["names"]
    )
    if asked.as_task()["digests"] != task["digests"]:
        raise UsageError("the prompts have changed since the comparison was begun", where=str(out))
    return asked


def arms_of(methods: Sequence[str], learning_rates: Sequence[float]) -> list[Arm]:
    """Return an arm for each method, and for each learning rate of those of TRL, in the order of the table.

    Raises:
        UsageError: A method or a rate is none.
    """
    for name in methods:
        if name not in METHODS:
            raise UsageError(f'there is no method "{name}".{did_you_mean(name, METHODS)}', where="--methods")
    if not methods or not learning_rates or min(learning_rates) <= 0:
        raise UsageError("at least one method, and learning rates above 0", where="--learning-rates")
    rates = sorted(set(learning_rates))
    return [
        arm
        for method in METHODS
        if method in methods
        for arm in ([Arm(method, rate) for rate in rates] if method in BY_TRL else [Arm(method)])
    ]
