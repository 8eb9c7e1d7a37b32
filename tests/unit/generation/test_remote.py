"""Answers from a real HTTP server on loopback that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.echo_server import Server

from penchant.endpoint.client import Endpoint
from penchant.errors import DataError, ModelError, UsageError
from penchant.generation.remote import remote_answers
from penchant.types import Answer, Prompt, Sampling, Turn

PROMPTS = [
    Prompt("a", (Turn("system", "Be brief."), Turn("user", "Why?"))),
    Prompt("b", (Turn("user", "Who?"),), later=("And then?",)),
]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def endpoint(server: Server) -> Endpoint:
    return Endpoint(server.url, "tiny", key_variable=None, retries=0)


def test_answers_stand_in_the_order_of_local_ones(server: Server) -> None:
    """Sample after sample, and the later turn behind the answer that came before it."""
    told: list[int] = []
    found = remote_answers(endpoint(server), PROMPTS, max_new_tokens=9, samples=2, on_answers=told.append)
    first, then = Answer("You said: Who?", False, 4), Answer("You said: And then?", True, 4)
    assert found == [[Answer("You said: Why?", True, 4)] * 2, [first, then, first, then]]
    assert sum(told) == 6
    later = [body["messages"] for body in server.asked if body["messages"][-1]["content"] == "And then?"]
    assert later[0] == [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "You said: Who?"},
        {"role": "user", "content": "And then?"},
    ]


def test_the_request_says_how_to_sample(server: Server) -> None:
    """Every sample has a seed of its own, which the prompt's place does not change."""
    sampling = Sampling(temperature=0.5, top_p=0.9, seed=1)
    options: dict[str, Any] = {"max_new_tokens": 9, "samples": 3, "sampling": sampling, "stop": ["\n"]}
    remote_answers(endpoint(server), PROMPTS[:1], **options)
    seeds = {body.pop("seed") for body in server.asked}
    assert len(seeds) == 3
    expected = {
        "model": "tiny",
        "messages": [turn.as_message() for turn in PROMPTS[0].turns],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["\n"],
    }
    assert server.asked == [expected] * 3
    server.asked.clear()
    remote_answers(endpoint(server), PROMPTS[::-1], **options)
    of_first = [body["seed"] for body in server.asked if body["messages"][-1]["content"] == "Why?"]
    assert set(of_first) == seeds


def test_a_refused_prompt_is_told_and_stays_empty(server: Server) -> None:
    problems: list[str] = []
    refused = Prompt("x", (Turn("user", "refuse"),), source="asked.jsonl", line=7)
    found = remote_answers(endpoint(server), [PROMPTS[0], refused], max_new_tokens=9, on_problem=problems.append)
    assert found == [[Answer("You said: Why?", True, 4)], [Answer("", False, 0)]]
    [problem] = problems
    assert '"x" (asked.jsonl:7)' in problem
    assert "no such words" in problem


def test_a_server_that_cannot_be_used_is_an_error(server: Server) -> None:
    with pytest.raises(ModelError, match="no key"):
        remote_answers(endpoint(server), [Prompt("x", (Turn("user", "break"),))], max_new_tokens=9)


@pytest.mark.parametrize("changes", [{"top_k": 5}, {"min_p": 0.1}])
def test_what_the_protocol_does_not_know_is_refused(server: Server, changes: dict[str, Any]) -> None:
    sampling = Sampling(temperature=1.0, **changes)
    with pytest.raises(UsageError, match=f"has no {next(iter(changes))}"):
        remote_answers(endpoint(server), PROMPTS, max_new_tokens=9, sampling=sampling)
    assert server.asked == []


def test_an_id_that_stands_twice_is_refused(server: Server) -> None:
    with pytest.raises(DataError, match="stands twice"):
        remote_answers(endpoint(server), [PROMPTS[0], PROMPTS[0]], max_new_tokens=9)
