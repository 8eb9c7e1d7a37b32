"""A GGUF file as llama.cpp itself reads it: its ids of a text, its prompt of a conversation, its next token.

llama.cpp comes with its Python binding xllamacpp, an extra. It holds llama.cpp's own server, which runs beside us
on loopback behind a key of its own, and is asked over HTTP as every client asks it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import httpx2
import torch

from penchant.errors import ModelError, UsageError

BINDING = "xllamacpp"
_MOST_ALTERNATIVES = 1000
_CERTAIN = 1e6
_SECONDS = 600.0  # one answer, of a large model on a slow processor


def check_llama_cpp() -> None:
    """Look whether llama.cpp's binding is installed.

    Raises:
        UsageError: It is not.
    """
    if importlib.util.find_spec(BINDING) is None:
        raise UsageError(
            "llama.cpp's Python binding is not installed",
            where="--check llama.cpp",
            fix='Install the extra: pip install "penchant[llamacpp]", or xllamacpp itself.',
        )


class LlamaCpp:
    """llama.cpp's server with one model.

    Args:
        client: Speaks to it.

    Attributes:
        name: Of the reader, with its version.
        bos: Text of the token that begins a text, "" for none.
        eos: Text of the token that ends one.
        rows: Size of the vocabulary.
    """

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self.name = f"llama.cpp ({BINDING} {importlib.metadata.version(BINDING)})"
        properties = self._asked("GET", "/props")
        self.bos, self.eos = str(properties["bos_token"]), str(properties["eos_token"])
        self._plain = self.ids("a")[-1]  # it tells none for a token that ends a response or half a character
        self.rows = int(self._asked("GET", "/v1/models")["data"][0]["meta"]["n_vocab"])

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text, nothing added; special tokens in it are read as such."""
        asked = {"content": text, "add_special": False, "parse_special": True}
        return [int(token) for token in self._asked("POST", "/tokenize", asked)["tokens"]]

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the text of a conversation by the file's chat template, its generation header included.

        Raises:
            ModelError: The template refuses it.
        """
        return str(self._asked("POST", "/apply-template", {"messages": list(messages)})["prompt"])

    def next_token(self, ids: Sequence[int], wanted: int) -> dict[int, float]:
        """Return log-probabilities of the next token, the largest first: the 1000 most probable ones.

        All of the vocabulary, which takes a second, when the wanted one is not among them.
        """
        found = self._alternatives(ids, min(_MOST_ALTERNATIVES, self.rows))
        return found if wanted in found else self._alternatives(ids, self.rows)

    def _alternatives(self, ids: Sequence[int], count: int) -> dict[int, float]:
        bias = [[self._plain, _CERTAIN]]  # probabilities are told as they are before it
        asked = {"prompt": list(ids), "n_predict": 1, "n_probs": count, "temperature": 0.0, "logit_bias": bias}
        places = self._asked("POST", "/completion", asked).get("completion_probabilities")
        if not places:
            raise ModelError("llama.cpp told no probabilities", where="/completion")
        return {int(one["id"]): float(one["logprob"]) for one in places[0]["top_logprobs"]}

    def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise ModelError(f"llama.cpp gave no answer ({type(error).__name__})", where=path) from error
        if answer.status_code != 200:
            raise ModelError(f"llama.cpp refused: {answer.text[:200]}", where=path)
        return answer.json()


@contextlib.contextmanager
def llama_cpp(file: Path, *, context: int) -> Iterator[LlamaCpp]:
    """Open a GGUF file in llama.cpp, on the CPU.

    Args:
        file: The file.
        context: Tokens that are needed at once.

    Raises:
        ModelError: llama.cpp does not open it; its last words are told.
    """
    key = secrets.token_urlsafe(24)
    settings = {"file": str(file.resolve()), "context": context, "threads": torch.get_num_threads(), "key": key}
    with tempfile.TemporaryFile() as told, _started(told) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once: the empty answer says so
            child.stdin.write(json.dumps(settings) + "\n")
            child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            raise ModelError(f"llama.cpp does not open it ({_last_words(told)})", where=str(file))
        with httpx2.Client(
            base_url=json.loads(line)["address"],
            headers={"Authorization": f"Bearer {key}"},
            timeout=_SECONDS,
            trust_env=False,
        ) as client:
            yield LlamaCpp(client)


@contextlib.contextmanager
def _started(told: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """A child that outlives neither us nor the body; Ctrl+C is for us alone, who then end it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "penchant.workflow.export.llama_cpp_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=told,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        child.kill()
        with contextlib.suppress(BrokenPipeError):  # what it did not live to read
            child.communicate()


def _last_words(told: IO[bytes]) -> str:
    told.seek(0)
    lines = [line.strip() for line in told.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return "; ".join(lines[-2:])[:300] or "it ended without a word"
