"""Options of a loop: ranges, and what two calls must agree on."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tiny import tiny_config

from penchant.data.on_policy_pairs import PairRules
from penchant.errors import UsageError
from penchant.types import Prompt, Turn
from penchant.workflow.online.rounds import round_prompts
from penchant.workflow.online.settings import OnlineSettings, changes, identity

PROMPTS = [Prompt(f"p-{n}", (Turn("user", f"question {n}"),)) for n in range(7)]


@pytest.mark.parametrize(
    ("option", "value", "where"),
    [
        ("rounds", 0, "--rounds"),
        ("samples", 1, "--samples"),
        ("temperature", 0.0, "--temperature"),
        ("replay", -0.5, "--replay"),
        ("reference", "fixe", "--reference"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_option(option: str, value: Any, where: str) -> None:
    with pytest.raises(UsageError, match=f"^{where}: "):
        OnlineSettings(**{"rounds": 1, option: value})


def told(settings: OnlineSettings, judge: str = "j", beta: float = 0.1) -> dict[str, Any]:
    config = tiny_config("m", objective={"beta": beta})
    return identity(config, settings, judge, PROMPTS, PROMPTS[:1])


def test_more_rounds_are_the_same_loop_unless_rounds_share_the_prompts() -> None:
    assert told(OnlineSettings(2, prompts_per_round=2)) == told(OnlineSettings(3, prompts_per_round=2))
    assert changes(told(OnlineSettings(2)), told(OnlineSettings(3))) == ["settings.rounds_share_prompts"]


def test_a_loop_of_an_earlier_version_is_recognised() -> None:
    """What loops have written of their settings since there are loops."""
    stored = {
        "again": False,
        "max_new_tokens": 256,
        "prompts_per_round": 2,
        "reference": "moved",
        "replay": 0.5,
        "rules": {"choice": "best-worst", "clean": "chosen", "margin": 0.0, "per_prompt": 2},
        "samples": 4,
        "seed": 3,
        "temperature": 1.0,
        "tokens_per_round": None,
        "top_k": 50,
        "top_p": 0.95,
    }
    assert told(OnlineSettings(2, prompts_per_round=2, replay=0.5, samples=4, seed=3))["settings"] == stored


def test_what_changed_is_named() -> None:
    before = told(OnlineSettings(2, prompts_per_round=2))
    now = told(OnlineSettings(2, prompts_per_round=2, rules=PairRules(margin=1.0)), judge="k", beta=0.2)
    assert changes(before, now) == ["config.objective.beta", "judge", "settings.rules.margin"]


def names(settings: OnlineSettings, taken: int) -> list[str]:
    return [prompt.id.removeprefix("p-") for prompt in round_prompts(PROMPTS, settings, taken)]


def test_rounds_take_fresh_prompts_and_after_the_last_the_first_again() -> None:
    three = OnlineSettings(3)
    assert [names(three, taken) for taken in (0, 2, 4)] == [["0", "1"], ["2", "3"], ["4", "5"]]
    five = OnlineSettings(2, prompts_per_round=5)
    assert names(five, 5) == ["5", "6", "0", "1", "2"]
    assert names(OnlineSettings(2, prompts_per_round=99), 3) == ["3", "4", "5", "6", "0", "1", "2"]


def test_with_a_token_budget_a_round_may_take_every_prompt() -> None:
    assert names(OnlineSettings(3, tokens_per_round=10), 2) == ["2", "3", "4", "5", "6", "0", "1"]


def test_a_loop_may_ask_the_same_prompts_again() -> None:
    again = OnlineSettings(3, again=True)
    assert names(again, 14) == names(again, 0) == ["0", "1", "2", "3", "4", "5", "6"]
