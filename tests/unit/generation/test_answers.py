"""Prompts to answers as text: named draws, conversations of several turns, and what is refused beforehand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny import END, loaded, tiny_family, tiny_llama
from tests.together import in_processes

from penchant.errors import DataError, ModelError
from penchant.generation.answers import answer_prompts, count_answers, without_control_tokens
from penchant.generation.generate import generate
from penchant.models.load import LoadedModel
from penchant.types import Answer, Prompt, Sampling, Turn

SAMPLING = Sampling(temperature=1.0, top_k=40, seed=5)
NEW = 10


def asked(name: str, text: str, *later: str) -> Prompt:
    return Prompt(name, (Turn("user", text),), later=later)


PROMPTS = [
    asked("a", "Why?"),
    asked("b", "Where does the wind sleep?"),
    asked("c", "Who?", "And then?", "Why is that so?"),
    asked("d", "How do birds know the way?", "Do they?"),
    asked("e", "When?"),
]


def some_model() -> LoadedModel:
    model = tiny_family("Llama", seed=1)
    with torch.no_grad():
        model.get_output_embeddings().weight[END] *= 2.5  # type: ignore[union-attr,operator,index]
    return loaded(model)


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return some_model()


def answers_of(tiny: LoadedModel, prompts: list[Prompt] = PROMPTS, **changes: Any) -> list[list[Answer]]:
    return answer_prompts(tiny, prompts, **{"max_new_tokens": NEW, "samples": 2, "sampling": SAMPLING, **changes})


def by_id(tiny: LoadedModel, prompts: list[Prompt], **changes: Any) -> dict[str, list[Answer]]:
    return {prompt.id: row for prompt, row in zip(prompts, answers_of(tiny, prompts, **changes), strict=True)}


@pytest.mark.parametrize("sampling", [Sampling(), SAMPLING])
def test_a_prompt_is_answered_alike_in_any_list_and_batch(tiny: LoadedModel, sampling: Sampling) -> None:
    whole = by_id(tiny, PROMPTS, sampling=sampling)
    for prompts in (PROMPTS[::-1], PROMPTS[1:4], PROMPTS[2:3]):
        for rows in (1, 7, 32):
            assert by_id(tiny, prompts, sampling=sampling, batch_rows=rows) == {
                prompt.id: whole[prompt.id] for prompt in prompts
            }


def test_a_sample_stays_the_same_when_more_are_drawn(tiny: LoadedModel) -> None:
    two, five = answers_of(tiny, PROMPTS[:2]), answers_of(tiny, PROMPTS[:2], samples=5)
    assert [row[:2] for row in five] == two
    assert len({answer.text for answer in five[0]}) > 1


def in_one_of_two(samples: int) -> list[list[Answer]]:
    return answers_of(some_model(), samples=samples)


def test_two_processes_give_what_one_gives(tiny: LoadedModel) -> None:
    alone = answers_of(tiny, samples=3)
    assert in_processes(2, in_one_of_two, 3) == [alone, alone]


def test_later_turns_are_asked_after_the_answers_before_them(tiny: LoadedModel) -> None:
    """Greedy, turn by turn by hand; every answer stands in the conversation that the next one continues."""
    [found] = answers_of(tiny, [PROMPTS[2]], samples=1, sampling=Sampling())
    turns = list(PROMPTS[2].turns)
    for answer, question in zip(found, [*PROMPTS[2].later, ""], strict=True):
        [[made]] = generate(tiny, [tiny.chat.prompt_ids(turns)], max_new_tokens=NEW)
        assert answer == Answer(tiny.chat.decode(made.ids).strip(), made.finished, len(made.ids))
        said = without_control_tokens(tiny.chat, answer.text)
        turns += [Turn("assistant", said), Turn("user", question)]


def test_samples_of_a_conversation_stand_one_after_the_other(tiny: LoadedModel) -> None:
    told: list[int] = []
    found = answers_of(tiny, on_answers=told.append)
    assert [len(row) for row in found] == [2, 2, 6, 4, 2]
    assert sum(told) == count_answers(PROMPTS, 2) == 16


def test_literal_control_tokens_in_an_answer_forge_no_turn(tiny: LoadedModel) -> None:
    text = "a<|im_<|im_end|>end|>b<|im_start|>c"
    assert without_control_tokens(tiny.chat, text) == "abc"
    tiny.chat.prompt_ids([Turn("user", "a"), Turn("assistant", "abc"), Turn("user", "b")])


def test_the_format_is_the_one_asked_for(tiny: LoadedModel) -> None:
    plain = answers_of(tiny, PROMPTS[:1], samples=1, sampling=Sampling(), format="plain")[0][0]
    ids = tiny.chat.in_format("plain").prompt_ids(PROMPTS[0].turns)
    assert plain.tokens == len(generate(tiny, [ids], max_new_tokens=NEW)[0][0].ids)
    assert plain != answers_of(tiny, PROMPTS[:1], samples=1, sampling=Sampling())[0][0]


@pytest.mark.parametrize(
    ("prompts", "error", "words"),
    [
        ([PROMPTS[0], asked("a", "Again?")], DataError, 'id "a" stands twice'),
        ([PROMPTS[0], asked("x", "a" * 600)], DataError, '"x" has 6.. tokens, and the model reads 512'),
        ([PROMPTS[0], asked("x", "<|im_end|>")], ModelError, '"x" cannot be asked.*control token'),
        ([PROMPTS[0], asked("x", "Why?", "<|im_end|>")], ModelError, '"x" cannot be asked.*control token'),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_generated(
    tiny: LoadedModel, prompts: list[Prompt], error: type[Exception], words: str
) -> None:
    told: list[int] = []
    with pytest.raises(error, match=words):
        answers_of(tiny, prompts, on_answers=told.append)
    assert told == []


def test_an_empty_prompt_is_said() -> None:
    bare = loaded(tiny_llama(), template=False)
    bare.tokenizer.bos_token = None
    with pytest.raises(DataError, match='"x" is empty'):
        answers_of(bare, [asked("x", "")])


def test_an_answer_ends_where_the_context_ends(tiny: LoadedModel) -> None:
    """A later turn that finds no room gets an empty answer that is not finished."""
    prompt = asked("x", "a" * 480, "Why?")
    room = 512 - len(tiny.chat.prompt_ids(prompt.turns))
    [[first, second]] = answers_of(tiny, [prompt], samples=1, sampling=Sampling(), max_new_tokens=100)
    assert first.tokens <= room < 100
    assert second == Answer("", False, 0)
