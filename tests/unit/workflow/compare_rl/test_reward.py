"""What TRL is given as a reward is the judge's score, and the budget counts every token that was generated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from tests.tiny import END, loaded, tiny_llama

from penchant.generation.generate import generate
from penchant.types import Answer, Prompt, Sampling, Turn
from penchant.workflow.compare_rl.reward import Budget, Reward, answer_of
from penchant.workflow.online.sampling import generated_tokens

PROMPTS = {name: Prompt(name, (Turn("user", name),)) for name in ("sun", "moon")}


@dataclass(frozen=True)
class Told:
    """A score from prompt and answer; none for an empty answer."""

    name: str = "told"

    def score(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[float]:
        return [
            len(prompt.id) + len(answer.text) / 7 + 10 * answer.finished if answer.text else math.nan
            for prompt, answer in zip(prompts, answers, strict=True)
        ]


@pytest.fixture(scope="module")
def model():
    return loaded(tiny_llama(layers=1))


def test_the_reward_is_the_judges_score_of_the_decoded_answer(model) -> None:
    tokenizer = model.tokenizer
    texts = ["often blue", "  never  ", ""]
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    ids[0].append(END)
    budget = Budget(1000)
    reward = Reward(Told(), PROMPTS, model.chat, model.stop_ids, budget)
    found = reward(id=["sun", "moon", "moon"], completion_ids=ids, prompts=[], completions=[], trainer_state=None)
    answers = [Answer("often blue", True, 10), Answer("never", False, 9), Answer("", False, 0)]
    expected = Told().score([PROMPTS["sun"], PROMPTS["moon"], PROMPTS["moon"]], answers)
    assert found[:2] == expected[:2]
    assert math.isnan(expected[2])
    assert found[2] is None
    assert budget.figures() == {
        "generated_tokens": 11 + 9,
        "answers": 3,
        "mean_sampled_score": pytest.approx((expected[0] + expected[1]) / 2),
    }


def test_an_answer_is_the_one_that_a_round_of_ours_would_judge(model) -> None:
    """And counts the same number of tokens."""
    turns = [model.chat.prompt_ids(prompt.turns) for prompt in PROMPTS.values()]
    made = generate(model, turns, max_new_tokens=40, samples=6, sampling=Sampling(temperature=8, top_k=50))
    rows = [one for row in made for one in row]
    assert {one.finished for one in rows} == {True, False}
    for one in rows:
        generated = [*one.ids, END] if one.finished else list(one.ids)
        ours = Answer(model.chat.decode(one.ids).strip(), one.finished, len(one.ids))
        assert answer_of(generated, model.chat, model.stop_ids) == ours
        assert generated_tokens(ours) == len(generated)


def test_a_budget_is_reached_with_its_last_token(model) -> None:
    budget = Budget(6)
    reward = Reward(Told(), PROMPTS, model.chat, model.stop_ids, budget)
    reward(id=["sun"], completion_ids=[[5, 6, 7, 8, 9]])
    assert not budget.reached
    reward(id=["sun"], completion_ids=[[END]])
    assert (budget.spent, budget.reached) == (6, True)


def test_without_a_scored_answer_there_is_no_mean() -> None:
    assert Budget(6).figures()["mean_sampled_score"] is None
