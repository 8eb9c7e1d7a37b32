"""Weights that `torch.save` wrote (.pth, .pt), read without running code, onto a model of a named architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from penchant.errors import ModelError
from penchant.models.freeze import head, is_tied, untie_head

_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod)\.")  # of data parallelism and of torch.compile
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$")  # older models saved it; it follows from the configuration
_MOST_NAMED = 10
_SAVE_HINT = (
    'Save the weights alone: torch.save(model.state_dict(), "FILE.pth"), or model.save_pretrained("FOLDER").'
)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, mapped into memory where its format allows that.

    The file is a mapping of tensors, or holds one as "state_dict", "model_state_dict" or "model".

    Raises:
        ModelError: There is no such file, it is torn, it holds more than tensors and plain values (which is never
            unpickled, since that can run code), or no mapping of tensors is found in it.
    """
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    content = _load(path)
    candidates = [content]
    if isinstance(content, Mapping):
        candidates += [content[name] for name in _NESTED_UNDER if name in content]
    for candidate in candidates:
        if _holds_tensors(candidate):
            return dict(candidate)
    raise ModelError("there is no mapping of names to tensors in this file", where=str(path), fix=_SAVE_HINT)


def _load(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format before torch 1.6
    except Exception as error:  # a torn file fails in many ways
        if "weights_only" not in str(error):
            raise ModelError(f"this state dict cannot be read ({_first_line(error)})", where=str(path)) from error
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({found.group(1)})" if found else ""
        raise ModelError(
            f"this file holds more than tensors{what}; reading that can run code, so Penchant does not",
            where=str(path),
            fix=_SAVE_HINT,
        ) from error


def _holds_tensors(candidate: Any) -> bool:
    return (
        isinstance(candidate, Mapping)
        and len(candidate) > 0
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in candidate.items())
    )


def fill_model(model: PreTrainedModel, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Copy tensors into a model's parameters, in the model's precision.

    Names may carry the prefixes of data parallelism and of torch.compile, and may have or lack the prefix of the
    decoder. A tied head may be missing; one that differs from the embedding gets weights of its own.

    Args:
        model: Of the architecture that the tensors are said to belong to.
        tensors: From `read_state_dict`.
        where: What to call the file.

    Raises:
        ModelError: Names or shapes do not fit; the first ten of each kind are told, and how many there are.
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = _renamed(tensors, expected.keys(), f"{model.base_model_prefix}.", where=where)
    top, embedding = _end_names(model)
    if is_tied(model):
        if top not in given and embedding in given:
            given[top] = given[embedding]
        elif top in given and embedding in given and not torch.equal(given[top], given[embedding]):
            untie_head(model)
    shapes = {name: tuple(value.shape) for name, value in given.items()}
    problems = [
        _listed("missing", [name for name in expected if name not in given]),
        _listed("unexpected", [name for name in given if name not in expected]),
        _listed(
            "of another shape",
            [
                f"{name} {shapes[name]} instead of {shape}"
                for name, shape in expected.items()
                if name in shapes and shapes[name] != shape
            ],
        ),
    ]
    if any(problems):
        raise ModelError(
            f"the weights do not fit a {type(model).__name__}: {'; '.join(filter(None, problems))}",
            where=where,
            fix="model.architecture is to name the model that these weights were trained from.",
        )
    model.load_state_dict(given)


def _renamed(
    tensors: Mapping[str, Tensor], expected: Iterable[str], prefix: str, *, where: str
) -> dict[str, Tensor]:
    """The tensors under the model's own names, as far as it has such; the others under what they are called."""
    known, found = set(expected), dict[str, Tensor]()
    for raw, value in tensors.items():
        name = _WRAPPERS.sub("", raw)
        if _COMPUTED.search(name) and name not in known:
            continue
        own = next((each for each in (name, prefix + name, name.removeprefix(prefix)) if each in known), name)
        if own in found:
            raise ModelError(f"two tensors of the file would be {own}", where=where, fix=_SAVE_HINT)
        found[own] = value
    return found


def _end_names(model: PreTrainedModel) -> tuple[str, str]:
    """The names of the head's and the embedding's weight."""
    ends = (head(model), model.get_input_embeddings())
    by_module = {id(module): name for name, module in model.named_modules()}
    return f"{by_module[id(ends[0])]}.weight", f"{by_module[id(ends[1])]}.weight"


def _listed(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f"{len(names)} {kind} ({', '.join(names[:_MOST_NAMED])}{more})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
