"""TruthfulQA's scores: a plain transformers loop, any micro-batch and any number of processes give the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.shared_data import shared_file
from tests.tiny import pair_model, tiny_family, tiny_llama, tiny_tokenizer
from tests.together import in_processes

from penchant.data.ledger import Ledger
from penchant.data.truthfulqa import Choices, TruthfulQuestion, load_truthfulqa
from penchant.evaluation.multiple_choice import PRIMER, Form, encode_questions, score_answers
from penchant.evaluation.multiple_choice_figures import mc1, mc2, multiple_choice_figures
from penchant.models.load import load_model
from penchant.tokens.chat import ChatFormat, chat_format
from penchant.types import LedgerEntry

LOGPS = 1e-5  # of the largest score
FORMS: list[Form] = ["qa", "chat"]


def questions(count: int) -> list[TruthfulQuestion]:
    """Questions of several lengths with two to seven answers."""
    found = []
    for number in range(count):
        true = tuple(f"True {'so ' * place}{number}." for place in range(1 + number % 3))
        false = tuple(f"False {'not ' * place}{number}." for place in range(1 + number % 5))
        best = Choices((true[-1], *false), (True, *(False,) * len(false)))
        both = Choices((*true, *false), (True,) * len(true) + (False,) * len(false))
        asked = f"Is {'very ' * (number % 4)}question {number} asked?"
        found.append(TruthfulQuestion(str(number), asked, best, both, source="made", line=number + 1))
    return found


def kept(asked: list[TruthfulQuestion]) -> Ledger:
    return Ledger(LedgerEntry(one.source, one.line, one.id, "kept") for one in asked)


def plain_score(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    """The slow twin, as anyone would write it: one forward an answer, its tokens' log-probabilities summed."""
    before, whole = tokenizer(prompt).input_ids, tokenizer(prompt + answer).input_ids
    assert whole[: len(before)] == before
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].double()
    logps = torch.log_softmax(logits, dim=-1)
    return float(sum(logps[place - 1, whole[place]] for place in range(len(before), len(whole))))


def plain_scores(model: Any, tokenizer: Any, form: Form, asked: list[TruthfulQuestion]) -> list[np.ndarray]:
    found = []
    for question in asked:
        if form == "qa":
            prompt, lead = f"{PRIMER}\n\nQ: {question.text}\nA:", " "
        else:
            messages, lead = [{"role": "user", "content": question.text}], ""
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        found.append(
            np.array([plain_score(model, tokenizer, prompt, lead + answer) for answer in question.answers])
        )
    return found


def worst(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    one, other = np.concatenate(found), np.concatenate(expected)
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / np.abs(other).max())


def scores(
    model: Any, chat: ChatFormat, form: Form, asked: list[TruthfulQuestion], tokens: int
) -> list[np.ndarray]:
    left, groups = encode_questions(asked, kept(asked), chat, form=form, max_tokens=5000)
    assert left == asked
    return score_answers(model, groups, micro_batch_tokens=tokens)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("family", "sharing"), [("Llama", True), ("Qwen3", True), ("Llama", False)])
def test_every_answer_scores_as_in_a_plain_loop(form: Form, family: str, sharing: bool) -> None:
    tokenizer, asked = tiny_tokenizer(), questions(4)
    model = tiny_family(family, max_position_embeddings=1024)
    found = scores(pair_model(model, prefix_sharing=sharing), chat_format(tokenizer), form, asked, 2000)
    expected = plain_scores(model, tokenizer, form, asked)
    assert worst(found, expected) <= LOGPS
    assert [mc1(q, row) for q, row in zip(asked, found, strict=True)] == [
        mc1(q, row) for q, row in zip(asked, expected, strict=True)
    ]


def test_the_micro_batch_does_not_matter() -> None:
    asked, chat = questions(12), chat_format(tiny_tokenizer())
    model = pair_model(tiny_llama())
    together = scores(model, chat, "chat", asked, 100_000)
    for tokens in (1, 300):
        assert worst(scores(model, chat, "chat", asked, tokens), together) <= LOGPS


def scored_here(count: int) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Scores and figures as one of the processes that there are."""
    asked, chat = questions(count), chat_format(tiny_tokenizer())
    policy, reference = (scores(pair_model(tiny_llama(seed=seed)), chat, "chat", asked, 300) for seed in (1, 2))
    return policy, multiple_choice_figures(asked, policy, reference)


@pytest.mark.slow  # test_eval.py has two processes for all suites
def test_two_processes_share_the_work_and_have_the_same_figures() -> None:
    alone, figures = scored_here(9)
    for found, told in in_processes(2, scored_here, 9):
        assert worst(found, alone) <= LOGPS
        assert told.keys() == figures.keys()
        for name, value in figures.items():
            assert told[name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.bundled
@pytest.mark.parametrize(("form", "count"), [("chat", 40), ("qa", 10)])
def test_the_bundled_model_scores_real_rows_as_a_plain_loop_does(form: Form, count: int) -> None:
    asked, _ = load_truthfulqa(Path(shared_file("truthfulqa")), limit=count)
    loaded = load_model("bundled")
    found = scores(pair_model(loaded.model, pad_id=loaded.pad_id), loaded.chat, form, asked, 2048)
    expected = plain_scores(loaded.model, loaded.tokenizer, form, asked)
    assert worst(found, expected) <= LOGPS
    for measure in (mc1, mc2):
        ours, theirs = (
            np.mean([measure(q, row) for q, row in zip(asked, rows, strict=True)]) for rows in (found, expected)
        )
        print(form, count, measure.__name__, float(ours), float(theirs))
        assert ours == pytest.approx(theirs, abs=1e-5)
