"""What a comparison is asked for: arms, prompts kept back, and the file that its processes read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import tiny_config, write_rows

from penchant.data.on_policy_pairs import PairRules
from penchant.errors import UsageError
from penchant.workflow.compare_rl.asked import (
    Arm,
    RlSettings,
    arms_of,
    asked_for,
    read_task,
    verifier,
    write_task,
)

SETTINGS = RlSettings(1000, prompts_per_step=4, rules=PairRules(per_prompt=3, clean="none"))
NAMES = {"held_out": None, "system": "Be brief.", "judge": "longer"}


@pytest.fixture
def names(tmp_path: Path) -> dict[str, str | None]:
    rows = [{"id": f"p-{n}", "prompt": f"sun {n}"} for n in range(30)]
    return {**NAMES, "prompts": str(write_rows(tmp_path / "prompts.jsonl", rows))}


def with_choice(**changes: Any) -> RlSettings:
    return RlSettings(1000, prompts_per_step=4, choice_prompts=True, **changes)


def test_each_rate_of_a_method_of_trl_is_an_arm_and_ours_take_the_recipes() -> None:
    arms = arms_of(["rloo", "dpo", "grpo"], [1e-5, 1e-6, 1e-5])
    assert arms == [Arm("dpo"), Arm("grpo", 1e-6), Arm("grpo", 1e-5), Arm("rloo", 1e-6), Arm("rloo", 1e-5)]
    assert [arm.name for arm in arms[:3]] == ["dpo", "grpo-1e-06", "grpo-1e-05"]


@pytest.mark.parametrize(
    ("methods", "rates", "what"),
    [(["gpro"], [1e-6], 'Did you mean "grpo"'), (["dpo"], [0.0], "above 0"), ([], [1e-6], "at least one method")],
)
def test_what_is_no_method_or_no_rate_is_refused(methods: list[str], rates: list[float], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        arms_of(methods, rates)


def test_a_judge_that_only_compares_is_no_reward() -> None:
    assert verifier("house-style").name == "house-style"
    with pytest.raises(UsageError, match="a policy gradient needs a reward"):
        verifier("random")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"tokens": 2, "rounds": 3}, "--tokens"),
        ({"prompts_per_step": 0}, "--prompts-per-step"),
        ({"kl_beta": -0.1}, "--kl-beta"),
        ({"samples": 1}, "--samples"),
    ],
)
def test_a_value_out_of_range_is_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        RlSettings(**{"tokens": 100, **changes})
    assert caught.value.where == where


def test_the_rounds_of_a_loop_share_the_budget() -> None:
    assert SETTINGS.online(1).tokens_per_round == 1000
    assert SETTINGS.online(3).tokens_per_round == 334
    assert (SETTINGS.online(3).rounds, SETTINGS.online(3).rules) == (3, SETTINGS.rules)


def test_prompts_to_choose_a_rate_by_are_kept_from_training_and_from_the_result(
    names: dict[str, str | None],
) -> None:
    config = tiny_config("start")
    asked, plain = asked_for(config, with_choice(), names), asked_for(config, SETTINGS, names)
    assert plain.choice == []
    assert [*asked.prompts, *asked.choice] == plain.prompts
    assert len(asked.choice) == len(plain.prompts) // 5 > 0
    assert asked.held_out == plain.held_out
    assert all(prompt.turns[0].content == "Be brief." for prompt in asked.prompts)


def test_too_few_prompts_for_a_step_or_for_a_choice_are_refused(
    tmp_path: Path, names: dict[str, str | None]
) -> None:
    with pytest.raises(UsageError, match="a step takes 31 prompts"):
        asked_for(tiny_config("start"), RlSettings(1000, prompts_per_step=31), names)
    few = write_rows(tmp_path / "few.jsonl", [{"prompt": f"rain {n}"} for n in range(4)])
    others = {**names, "prompts": str(few), "held_out": names["prompts"]}
    with pytest.raises(UsageError, match="too few prompts to keep some back"):
        asked_for(tiny_config("start"), with_choice(), others)


def test_another_process_reads_what_was_asked(tmp_path: Path, names: dict[str, str | None]) -> None:
    asked = asked_for(tiny_config("start"), with_choice(kl_beta=0.01, rules=PairRules(margin=0.5)), names)
    write_task(asked, tmp_path, resume=False)
    read = read_task(tmp_path)
    assert read == asked
    assert read.mark is None


def test_a_comparison_of_an_earlier_version_is_gone_on_with(tmp_path: Path, names: dict[str, str | None]) -> None:
    """What comparisons have written of their settings since there are comparisons."""
    stored = {
        "choice_prompts": False,
        "kl_beta": None,
        "max_new_tokens": 256,
        "prompts_per_step": 4,
        "rounds": 3,
        "rules": {"choice": "best-worst", "clean": "none", "margin": 0.0, "per_prompt": 3},
        "samples": 8,
        "seed": 0,
        "temperature": 1.0,
        "tokens": 1000,
        "top_k": 50,
        "top_p": 0.95,
    }
    asked = asked_for(tiny_config("start"), SETTINGS, names)
    write_task(asked, tmp_path, resume=False)
    task = json.loads((tmp_path / "task.json").read_text())
    assert task["settings"] == stored
    (tmp_path / "task.json").write_text(json.dumps({**task, "settings": stored}))
    write_task(asked, tmp_path, resume=True)
    assert read_task(tmp_path) == asked


def test_another_comparison_is_not_gone_on_with(tmp_path: Path, names: dict[str, str | None]) -> None:
    asked = asked_for(tiny_config("start"), SETTINGS, names)
    write_task(asked, tmp_path, resume=False)
    with pytest.raises(UsageError, match="a comparison here already"):
        write_task(asked, tmp_path, resume=False)
    before = (tmp_path / "task.json").read_bytes()
    write_task(asked, tmp_path, resume=True)
    other = asked_for(tiny_config("start"), RlSettings(999, prompts_per_step=4, rules=SETTINGS.rules), names)
    with pytest.raises(UsageError, match=r"something else: settings\.tokens$|something else: settings\.tokens\n"):
        write_task(other, tmp_path, resume=True)
    assert (tmp_path / "task.json").read_bytes() == before


def test_prompts_that_changed_since_are_noticed(tmp_path: Path, names: dict[str, str | None]) -> None:
    write_task(asked_for(tiny_config("start"), SETTINGS, names), tmp_path, resume=False)
    file = Path(str(names["prompts"]))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    write_rows(file, [{**row, "prompt": row["prompt"] + "!"} for row in rows])
    with pytest.raises(UsageError, match="prompts have changed"):
        read_task(tmp_path)
