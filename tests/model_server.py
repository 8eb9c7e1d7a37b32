"""A model of our own behind an endpoint on loopback, for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chat_server import Body, ChatServer, chat_server

from penchant.generation.generate import generate
from penchant.models.load import LoadedModel
from penchant.types import Sampling, Turn


@contextmanager
def model_server(loaded: LoadedModel) -> Iterator[ChatServer]:
    """Serve a loaded model: temperature, seed and the longest answer as each request says."""
    one_at_a_time = threading.Lock()

    def answer(body: Body) -> str:
        turns = [Turn(message["role"], message["content"]) for message in body["messages"]]
        sampling = Sampling(temperature=body.get("temperature", 1.0), seed=body.get("seed", 0))
        with one_at_a_time:
            [[made]] = generate(
                loaded, [loaded.chat.prompt_ids(turns)], max_new_tokens=body["max_tokens"], sampling=sampling
            )
        return loaded.chat.decode(made.ids)

    with chat_server(answer) as server:
        yield server
