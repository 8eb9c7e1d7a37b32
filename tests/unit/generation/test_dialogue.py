"""A conversation token by token, against the batched generation of the same prompts."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from tests.tiny import END, loaded, tiny_family

from penchant.errors import DataError
from penchant.generation.dialogue import Dialogue, sure_text
from penchant.generation.generate import generate
from penchant.models.load import LoadedModel
from penchant.types import Answer, Sampling, Turn

DRAWN = Sampling(temperature=1.0, seed=4)


def eager_to_stop(name: str = "Llama", **changes: Any) -> LoadedModel:
    model = tiny_family(name, seed=1, **changes)
    with torch.no_grad():
        model.get_output_embeddings().weight[END] *= 2.0  # type: ignore[union-attr,operator,index]
    return loaded(model)


def batched(model: LoadedModel, turns: list[Turn], new: int, sampling: Sampling, name: str) -> Answer:
    ids = model.chat.prompt_ids(turns)
    [[made]] = generate(model, [ids], max_new_tokens=new, sampling=sampling, names=[name])
    return Answer(model.chat.decode(made.ids).strip(), made.finished, len(made.ids))


@pytest.mark.parametrize("name", ["Llama", "Gemma3"])
@pytest.mark.parametrize("sampling", [Sampling(), DRAWN])
def test_every_turn_is_what_the_batched_generation_gives(name: str, sampling: Sampling) -> None:
    """Also after the conversation was taken back, and where a sliding window has dropped what was read."""
    model = eager_to_stop(name, **({"sliding_window": 8} if name == "Gemma3" else {}))
    dialogue = Dialogue(model, model.chat)
    turns = [Turn("user", "Why does the sun shine?")]
    for turn in range(3):
        pieces = "".join(dialogue.say(turns, max_new_tokens=15, sampling=sampling, name=f"n{turn}"))
        assert dialogue.answer is not None
        assert dialogue.answer == batched(model, turns, 15, sampling, f"n{turn}")
        assert pieces.strip() == dialogue.answer.text
        turns += [Turn("assistant", dialogue.quoted(dialogue.answer.text)), Turn("user", "And then?")]
    other = [*turns[:2], Turn("user", "No, the moon!")]
    list(dialogue.say(other, max_new_tokens=15, sampling=sampling, name="x"))
    assert dialogue.answer == batched(model, other, 15, sampling, "x")


def test_what_was_read_is_not_read_again() -> None:
    """The second turn reads no more than is new to it."""
    model = eager_to_stop()
    dialogue = Dialogue(model, model.chat)
    first = [Turn("user", "Why does the sun shine? " * 5)]
    list(dialogue.say(first, max_new_tokens=10))
    assert dialogue.answer is not None
    second = [*first, Turn("assistant", dialogue.answer.text), Turn("user", "Oh?")]
    read: list[int] = []
    handle = model.model.register_forward_pre_hook(
        lambda _, __, values: read.append(values["input_ids"].shape[1]), with_kwargs=True
    )
    list(dialogue.say(second, max_new_tokens=3))
    handle.remove()
    new = len(model.chat.prompt_ids(second)) - len(model.chat.prompt_ids(first))
    assert 0 < read[0] <= new
    assert read[1:] == [1] * (len(read) - 1)


def test_a_conversation_goes_on_after_an_interrupted_pass() -> None:
    """As Ctrl+C does in the midst of the layers: what the cache holds then is not used."""
    model = eager_to_stop()
    dialogue = Dialogue(model, model.chat)
    turns = [Turn("user", "Why does the sun shine?")]
    calls = 0

    def interrupt(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    handle = model.model.get_submodule("model.layers.1").register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(dialogue.say(turns, max_new_tokens=15, sampling=DRAWN, name="a"))
    handle.remove()
    interrupted = dialogue.answer
    assert interrupted is not None
    assert (interrupted.finished, interrupted.tokens) == (False, 3)
    list(dialogue.say(turns, max_new_tokens=15, sampling=DRAWN, name="a"))
    assert dialogue.answer == batched(model, turns, 15, DRAWN, "a")


def test_pieces_end_before_a_stop_string() -> None:
    model = eager_to_stop()
    dialogue = Dialogue(model, model.chat)
    turns = [Turn("user", "Where?")]
    whole = "".join(dialogue.say(turns, max_new_tokens=40, sampling=DRAWN, name="a"))
    [stop, *_] = re.findall(r"[!-~]{2}", whole[5:])
    pieces = list(dialogue.say(turns, max_new_tokens=40, sampling=DRAWN, name="a", stop=[stop]))
    assert "".join(pieces) == whole.partition(stop)[0]
    assert dialogue.answer is not None
    assert dialogue.answer.finished


def test_a_conversation_that_fills_the_context_is_an_error() -> None:
    model = eager_to_stop()
    dialogue = Dialogue(model, model.chat)
    with pytest.raises(DataError, match="reads 512 at most"):
        next(dialogue.say([Turn("user", "a" * 600)], max_new_tokens=5))
    list(dialogue.say([Turn("user", "a" * 480)], max_new_tokens=100))
    assert dialogue.answer is not None
    assert 480 + dialogue.answer.tokens < 512


@pytest.mark.parametrize(
    ("text", "stops", "sure"),
    [
        ("abc", (), "abc"),
        ("abc\ufffd", (), "abc"),
        ("ab\n", ("\n\nHuman:",), "ab"),
        ("ab\n\nHu", ("\n\nHuman:",), "ab"),
        ("ab\n\nHi", ("\n\nHuman:",), "ab\n\nHi"),
        ("aab", ("ab!", "aab!"), ""),
    ],
)
def test_what_is_shown_will_stay(text: str, stops: tuple[str, ...], sure: str) -> None:
    """Neither half a character nor what may turn out to be a stop string."""
    assert sure_text(text, stops) == sure
