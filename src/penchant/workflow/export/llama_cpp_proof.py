"""A GGUF file proven by llama.cpp, the program that it is made for.

The weights were compared bit for bit when transformers' reader had opened the file, and llama.cpp hands out none.
It computes in its own way: keys and values are kept in fp16, and next to weights of 8 bits or fewer activations
are rounded to 8 bits, too. So its log-probabilities may differ more than what the file holds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from penchant.errors import ModelError
from penchant.models.gguf_export.quantisation import Quantisation
from penchant.models.load import LoadedModel
from penchant.workflow.export.differences import Differences, log_probabilities, summed
from penchant.workflow.export.llama_cpp import LlamaCpp, llama_cpp
from penchant.workflow.export.passages import CONVERSATIONS, Passage, Passages
from penchant.workflow.export.proof import Bounds, Check, Proof, ids_check, template_check, unopened, within
from penchant.workflow.export.rendered import rendered

_READER = "llama.cpp"
_OWN_ROUNDING = 1e-3  # mean KL, nats: of fp16 keys and values, where the file itself costs nothing
_SPARE_TOKENS = 8


def llama_cpp_bounds(chosen: Quantisation) -> Bounds:
    """Return what may differ in llama.cpp: twice what the number format may cost, and its own rounding."""
    return Bounds(
        2 * chosen.most_kl + _OWN_ROUNDING,
        None,
        f"what {chosen.name} may cost, as much again for rounded activations, and fp16 keys and values",
    )


def prove_with_llama_cpp(
    policy: LoadedModel,
    file: Path,
    compared: Passages,
    chosen: Quantisation,
    on_passage: Callable[[int], None] | None = None,
) -> Proof:
    """Open a GGUF file in llama.cpp and compare it with the policy.

    Args:
        policy: The policy, in fp32 on the CPU.
        file: The file.
        compared: What is scored and tokenized.
        chosen: The file's number format.
        on_passage: Told of each response that was scored.
    """
    bounds = llama_cpp_bounds(chosen)
    longest = max(len(passage.prompt_ids) + len(passage.response_ids) for passage in compared.passages)
    try:
        with llama_cpp(file, context=longest + _SPARE_TOKENS) as opened:
            first = (
                ids_check(policy.tokenizer, opened.ids, compared.texts),
                _same_template(policy, opened),
                _same_special(policy, opened),
            )
            found = _differences(policy, opened, compared.passages, on_passage)
    except ModelError as error:
        return unopened(_READER, compared, bounds, error)
    return Proof(opened.name, compared.source, (*first, within(found, bounds)), found, bounds)


def _same_template(policy: LoadedModel, opened: LlamaCpp) -> Check:
    """With the generation header alone: llama.cpp prints no conversation without."""
    mine = [rendered(policy.tokenizer, turns, True) for turns in CONVERSATIONS]
    if not policy.chat.has_template:  # it would take one of its own
        return Check("chat template", True, "the policy has none, so none was compared")
    theirs: list[str | None] = []
    for turns in CONVERSATIONS:
        try:
            theirs.append(opened.prompt([turn.as_message() for turn in turns]))
        except ModelError:  # a template may refuse a conversation: both are then to refuse it
            theirs.append(None)
    return template_check(mine, theirs)


def _same_special(policy: LoadedModel, opened: LlamaCpp) -> Check:
    unequal = []
    for name, theirs in (("bos_token", opened.bos), ("eos_token", opened.eos)):
        mine = getattr(policy.tokenizer, name)
        if mine is not None and mine != theirs:
            unequal.append(f"{name} {mine!r} and {theirs!r}")
    return Check("special tokens", not unequal, "; ".join(unequal) or "equal")


def _differences(
    policy: LoadedModel,
    opened: LlamaCpp,
    passages: tuple[Passage, ...],
    on_passage: Callable[[int], None] | None,
) -> Differences:
    apart: list[Tensor] = []
    divergences: list[Tensor] = []
    equal = 0
    for passage in passages:
        table = log_probabilities(policy.model, passage)
        for place, wanted in enumerate(passage.response_ids):
            theirs = opened.next_token([*passage.prompt_ids, *passage.response_ids[:place]], wanted)
            mine = table[place]
            apart.append((mine[wanted] - theirs[wanted]).abs()[None])
            divergences.append(divergence(mine, theirs)[None])
            equal += int(mine.argmax()) == next(iter(theirs))
        if on_passage:
            on_passage(1)
    return summed(len(passages), apart, divergences, equal)


def divergence(mine: Tensor, theirs: dict[int, float]) -> Tensor:
    """Return the KL from the policy, nats, all tokens that llama.cpp did not name taken as one.

    That is never more than the whole. llama.cpp sums its probabilities in fp32, to 1e-4 or so; what it
    named is scaled to at most one in all.
    """
    named = torch.tensor(list(theirs))
    p = mine[named].double()
    q = torch.tensor(list(theirs.values()), dtype=torch.float64)
    q = q - q.logsumexp(0).clamp(min=0)
    found = (p.exp() * (p - q)).sum()
    p_rest = 1 - p.exp().sum()
    if len(named) == len(mine) or p_rest <= 0:
        return found
    q_rest = (1 - q.exp().sum()).clamp(min=torch.finfo(torch.float32).eps)
    return found + p_rest * (p_rest.log() - q_rest.log())
