"""The proof that an export is the policy: checks that are exact, and differences that must stay within rounding.

A number format costs something, and how much depends on the model; no bound on log-probabilities is tight enough
to find every fault and loose enough for every model. So the file's numbers are checked exactly first: what a
reader gets must be the policy's own weights as the format rounds them, bit for bit, each in its place. The
log-probabilities then say what that rounding costs, and that the reader computes what is expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from penchant.models.gguf_export.family import as_float32, family_of, tensors_of
from penchant.models.gguf_export.quantisation import Quantisation, rounded, type_of
from penchant.models.load import LoadedModel
from penchant.workflow.export.consumers import Opened
from penchant.workflow.export.differences import Differences, differences
from penchant.workflow.export.passages import TRICKY, Passages
from penchant.workflow.export.rendered import ids_of, rendered_all

_MOST_NAMED = 5


@dataclass(frozen=True)
class Bounds:
    """What still counts as rounding.

    Attributes:
        kl: Largest mean KL divergence, nats a token.
        token: Largest difference of one token's log-probability, nats; None where the KL bound alone counts.
        because: Where they come from.
    """

    kl: float
    token: float | None
    because: str


SAME_BYTES = Bounds(0.0, 0.0, "the same bytes, computed by the same code: no difference at all")
UNMERGED = Bounds(
    1e-6,
    1e-3,
    "base and adapter apart round differently in fp32 than merged: some 1e-5 nats; a fault is above 1e-2",
)


def gguf_bounds(chosen: Quantisation) -> Bounds:
    """Return the bounds of a number format of GGUF."""
    if chosen.name == "f32":
        return Bounds(chosen.most_kl, 1e-3, "the same fp32 weights; norm and rotary constants are stored in fp32")
    return Bounds(
        chosen.most_kl, None, f"what {chosen.name} may cost; that the numbers are right is checked bit for bit"
    )


@dataclass(frozen=True)
class Check:
    """One thing that was compared.

    Attributes:
        name: In a word or two.
        passed: Whether it is equal, or within its bounds.
        detail: What was found.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Proof:
    """What an export was found to be.

    Attributes:
        opened_by: Who opened it.
        compared_on: Where the pairs are from.
        checks: In the order in which they were made.
        differences: Of log-probabilities; None when it could not be opened.
        bounds: What is allowed.
        notes: What a reader is known to leave out.
        also: The proofs by further readers that were asked for.
    """

    opened_by: str
    compared_on: str
    checks: tuple[Check, ...]
    differences: Differences | None
    bounds: Bounds
    notes: tuple[str, ...] = ()
    also: tuple[Proof, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check of every reader passed."""
        return all(check.passed for check in self.checks) and all(proof.passed for proof in self.also)

    @property
    def failures(self) -> list[str]:
        """What differs, a line a check."""
        own = [f"{check.name}: {check.detail}" for check in self.checks if not check.passed]
        return own + [f"{proof.opened_by}, {line}" for proof in self.also for line in proof.failures]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for `proof.json`."""
        return {"passed": self.passed, **asdict(self)}


def unopened(reader: str, compared: Passages, bounds: Bounds, error: Exception) -> Proof:
    """Return the proof of an export that its consumer could not open: it failed."""
    told = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return Proof(reader, compared.source, (Check("opened", False, told),), None, bounds)


def prove(
    policy: LoadedModel,
    export: Opened,
    compared: Passages,
    bounds: Bounds,
    *,
    weights: Check | None = None,
    on_passage: Callable[[int], None] | None = None,
) -> Proof:
    """Compare an opened export with the policy.

    Args:
        policy: The policy, in fp32 on the CPU.
        export: The export as its consumer opened it.
        compared: What is scored and tokenized.
        bounds: What counts as rounding.
        weights: The check of the weights, where there is one to be had.
        on_passage: Told of each response that was scored.
    """
    first = [
        _same_ids(policy.tokenizer, export.tokenizer, compared.texts),
        _same_template(policy.tokenizer, export.tokenizer),
        _same_special(policy, export),
        *([weights] if weights else []),
    ]
    found = differences(policy.model, export.model, compared.passages, on_passage)
    notes = (export.note,) if export.note else ()
    return Proof(export.by, compared.source, (*first, within(found, bounds)), found, bounds, notes)


def within(found: Differences, bounds: Bounds) -> Check:
    """Check that the log-probabilities differ no more than rounding makes them."""
    detail = f"mean KL {found.kl:.3g} nats a token (at most {bounds.kl:g}), largest {found.largest:.3g} nats"
    if bounds.token is not None:
        detail += f" (at most {bounds.token:g})"
    within = found.kl <= bounds.kl and (bounds.token is None or found.largest <= bounds.token)
    return Check("log-probabilities", within, detail)


def _same_ids(one: Any, other: Any, texts: Sequence[str]) -> Check:
    return ids_check(one, lambda text: ids_of(other, text), texts)


def ids_check(policy: Any, theirs: Callable[[str], list[int]], texts: Sequence[str]) -> Check:
    """Check that a reader gives the ids of the policy's tokenizer.

    Args:
        policy: The policy's tokenizer.
        theirs: Ids of a text as the reader has them.
        texts: Of the pairs; conversations and text that is easily cut wrong come with them.
    """
    given = [*TRICKY, *texts, *(text for text in rendered_all(policy) if text is not None)]
    unequal = [text for text in given if ids_of(policy, text) != theirs(text)]
    first = f"; first {unequal[0][:60]!r}" if unequal else ""
    return Check("token ids", not unequal, f"equal for {len(given) - len(unequal)} of {len(given)} texts{first}")


def _same_template(one: Any, other: Any) -> Check:
    return template_check(rendered_all(one), rendered_all(other))


def template_check(mine: Sequence[str | None], theirs: Sequence[str | None]) -> Check:
    """Check that both print the same for each conversation; None where one prints nothing or refuses."""
    equal = sum(a == b for a, b in zip(mine, theirs, strict=True))
    said = "" if any(text is not None for text in mine) else " (neither renders any: there is no chat template)"
    return Check("chat template", equal == len(mine), f"equal text for {equal} of {len(mine)} conversations{said}")


def _same_special(policy: LoadedModel, export: Opened) -> Check:
    """EOS ends a response in other programs, BOS begins a text; padding is each reader's own affair."""
    unequal = []
    for name in ("bos_token_id", "eos_token_id"):
        mine, theirs = getattr(policy.tokenizer, name), getattr(export.tokenizer, name)
        if mine != theirs:
            unequal.append(f"{name} {mine} and {theirs}")
    stops = export.model.generation_config.eos_token_id if export.model.generation_config else None
    known = {stops} if isinstance(stops, int) else set(stops or ())
    if policy.tokenizer.eos_token_id not in {*known, export.tokenizer.eos_token_id}:
        unequal.append("no token ends a response")
    return Check("special tokens", not unequal, "; ".join(unequal) or "equal")


def same_parameters(policy: LoadedModel, export: Any) -> Check:
    """Check that a model has the policy's parameters, bit for bit."""
    return _compared(_pairs(policy.model, export), "the policy's")


def parameters_as_rounded(policy: LoadedModel, export: Any, chosen: Quantisation) -> Check:
    """Check that every parameter is the policy's as the number format rounds it, in its place, bit for bit.

    Rows of queries and keys are moved in the file and moved back by the reader; blocks run along a row, so
    rounding does not depend on that, and one row in a wrong place is found.
    """
    family = family_of(policy.model.config, where=policy.path)
    kinds = {
        name: type_of(stored, tuple(values.shape), chosen)
        for stored, name, values in tensors_of(policy.model, family, where=policy.path)
    }
    kinds.setdefault("lm_head.weight", kinds["model.embed_tokens.weight"])  # tied: the embedding's own numbers
    return _compared(
        (
            (name, None if mine is None else torch.from_numpy(rounded(mine.numpy(), kinds[name]).copy()), theirs)
            for name, mine, theirs in _pairs(policy.model, export)
        ),
        f"the policy's as {chosen.name} rounds them",
    )


def _pairs(policy: Any, export: Any) -> Iterator[tuple[str, torch.Tensor | None, torch.Tensor | None]]:
    mine, theirs = policy.state_dict(), export.state_dict()
    for name in sorted({*mine, *theirs}):
        one, other = mine.get(name), theirs.get(name)
        yield name, None if one is None else as_float32(one), None if other is None else as_float32(other)


def _compared(triples: Iterator[tuple[str, torch.Tensor | None, torch.Tensor | None]], what: str) -> Check:
    unequal, count = [], 0
    for name, mine, theirs in triples:
        count += 1
        if mine is None or theirs is None or mine.shape != theirs.shape:
            unequal.append(name)
        elif not np.array_equal(mine.numpy(), theirs.numpy()):
            unequal.append(name)
    named = f": not {', '.join(unequal[:_MOST_NAMED])}{', ...' if len(unequal) > _MOST_NAMED else ''}"
    detail = f"{count - len(unequal)} of {count} tensors are {what}, bit for bit"
    return Check("weights", not unequal and count > 0, detail + (named if unequal else ""))
