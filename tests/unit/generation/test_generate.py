"""Batched generation against transformers' own, prompt by prompt."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tests.tiny import END, PAD, loaded, random_ids, tiny_family
from transformers import PreTrainedModel

import penchant.generation.generate as module
from penchant.generation.generate import Generated, generate
from penchant.models.load import LoadedModel
from penchant.types import Sampling

NEW = 12
COIN = random.Random(4)
PROMPTS = [random_ids(COIN, length, length) for length in (9, 1, 14, 4, 4, 2, 11)]
SAMPLING = Sampling(temperature=1.0, top_k=40, top_p=0.95, seed=5)


def eager_to_stop(name: str = "Llama", **changes: Any) -> PreTrainedModel:
    """A model whose end token is likely enough that some answers end early and some do not."""
    model = tiny_family(name, seed=1, **changes)
    with torch.no_grad():
        model.get_output_embeddings().weight[END] *= 2.5  # type: ignore[union-attr,operator,index]
    return model


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return loaded(eager_to_stop())


def own_greedy(model: PreTrainedModel, prompt: tuple[int, ...]) -> Generated:
    """What transformers generates for one prompt alone."""
    out = model.generate(  # type: ignore[operator]
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    ids = out[0, len(prompt) :].tolist()
    finished = ids[-1] == END
    return Generated(tuple(ids[:-1] if finished else ids), finished)


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Mistral", "Gemma3"])
def test_greedy_is_what_transformers_generates(name: str) -> None:
    """Seven prompts of different length in one batch, left-padded: the answers of each prompt alone.

    Mistral's and Gemma's windows are shorter than prompt and answer, so the caches drop what slid out.
    """
    model = eager_to_stop(name, **({"sliding_window": 8} if name in ("Mistral", "Gemma3") else {}))
    expected = [own_greedy(model, prompt) for prompt in PROMPTS]
    found = generate(loaded(model), PROMPTS, max_new_tokens=NEW)
    assert [answers[0] for answers in found] == expected
    assert [len(answers) for answers in found] == [1] * len(PROMPTS)


def test_some_answers_end_and_some_are_cut(tiny: LoadedModel) -> None:
    """The flags tell which; an answer holds no end token, and a cut one has full length."""
    answers = [
        answer
        for row in generate(tiny, PROMPTS, max_new_tokens=NEW, samples=4, sampling=SAMPLING)
        for answer in row
    ]
    assert {answer.finished for answer in answers} == {True, False}
    for answer in answers:
        assert END not in answer.ids
        assert len(answer.ids) < NEW if answer.finished else len(answer.ids) == NEW


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLING])
def test_answers_do_not_depend_on_the_batch(tiny: LoadedModel, sampling: Sampling) -> None:
    """One row at a time, a few, or all at once: the same answers in the order of the prompts."""
    runs = [
        generate(tiny, PROMPTS, max_new_tokens=NEW, samples=3, sampling=sampling, batch_rows=rows)
        for rows in (1, 7, 1000)
    ]
    assert runs[0] == runs[1] == runs[2]


def test_finished_rows_leave_the_batch(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With compaction at every chance or never the answers are equal, and with it fewer rows are computed."""
    rows: list[int] = []
    handle = tiny.model.register_forward_pre_hook(
        lambda _, __, values: rows.append(len(values["input_ids"])), with_kwargs=True
    )
    results, work = [], []
    for share in (0.0, 0.8, 1.1):
        rows.clear()
        monkeypatch.setattr(module, "_COMPACT_BELOW", share)
        results.append(generate(tiny, PROMPTS, max_new_tokens=NEW, samples=4, sampling=SAMPLING))
        work.append(sum(rows))
    handle.remove()
    assert results[0] == results[1] == results[2]
    assert work[2] <= work[1] < work[0]


def test_samples_of_one_prompt_differ_and_the_seed_decides(tiny: LoadedModel) -> None:
    """Same seed, same answers; another seed, others."""
    first = generate(tiny, PROMPTS, max_new_tokens=NEW, samples=4, sampling=SAMPLING)
    assert len({answer.ids for answer in first[0]}) > 1
    assert generate(tiny, PROMPTS, max_new_tokens=NEW, samples=4, sampling=SAMPLING) == first
    other = Sampling(temperature=1.0, top_k=40, top_p=0.95, seed=6)
    assert generate(tiny, PROMPTS, max_new_tokens=NEW, samples=4, sampling=other) != first


def test_the_longest_answer_counts_its_end_token(tiny: LoadedModel) -> None:
    """One new token: either nothing and finished, or one token and cut."""
    for row in generate(tiny, PROMPTS, max_new_tokens=1, samples=8, sampling=SAMPLING):
        for answer in row:
            assert len(answer.ids) == (0 if answer.finished else 1)


def test_progress_counts_every_answer(tiny: LoadedModel) -> None:
    """Batch by batch, in whole prompts."""
    told: list[int] = []
    generate(tiny, PROMPTS, max_new_tokens=2, samples=3, batch_rows=7, on_rows=told.append)
    assert told == [6, 6, 6, 3]
    assert generate(tiny, [], max_new_tokens=2) == []


def test_several_stop_tokens_all_stop(tiny: LoadedModel) -> None:
    """Any of them ends an answer."""
    every = LoadedModel(tiny.model, tiny.chat, tiny.path, tuple(range(259)), PAD)
    assert generate(every, PROMPTS[:2], max_new_tokens=5) == [[Generated((), True)]] * 2
