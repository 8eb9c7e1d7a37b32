"""What the forms of the playground say: who is asked, and how tokens are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penchant.errors import UsageError, did_you_mean
from penchant.types import Sampling
from penchant.web.playground_likelihood import Side
from penchant.web.playground_talk import Choice, Voice

REFERENCE, NOBODY = "reference", "nobody"  # in place of the key of another one
MOST_NEW_TOKENS = 4096


@dataclass(frozen=True)
class Field:
    """A number of the sampling, as a form shows it.

    Attributes:
        name: Of the field; that of `Sampling`, or max_new_tokens.
        label: What it is called on the page.
        value: What it is unless somebody changes it.
        low: Least value.
        high: Greatest value; None = no limit.
        step: Of the field's arrows; "any" for a number that need not be whole.
        hint: What it does.
    """

    name: str
    label: str
    value: float
    low: float
    high: float | None
    step: str
    hint: str


def fields(sampling: Sampling, max_new_tokens: int) -> tuple[Field, ...]:
    """Return the fields of the sampling with these values in them."""
    return (
        Field("temperature", "Temperature", sampling.temperature, 0, None, "any", "0 takes the likeliest token"),
        Field("top_p", "Top-p", sampling.top_p, 0, 1, "any", "likeliest tokens of this share; 1 = all"),
        Field("top_k", "Top-k", sampling.top_k, 0, None, "1", "so many likeliest tokens; 0 = all"),
        Field("min_p", "Min-p", sampling.min_p, 0, 1, "any", "this share as likely as the likeliest; 0 = all"),
        Field("seed", "Seed", sampling.seed, 0, None, "1", "of the draws, the same on both sides"),
        Field(
            "max_new_tokens", "Longest answer", max_new_tokens, 1, MOST_NEW_TOKENS, "1", "tokens, its end included"
        ),
    )


def sampling_of(form: Mapping[str, str], sampling: Sampling, max_new_tokens: int) -> tuple[Sampling, int]:
    """Return the sampling and the longest answer that a form asks for; a field that is not there is as given.

    Raises:
        UsageError: A value is no number, or out of its range.
    """

    def number(name: str, kind: type[int] | type[float], value: float) -> float:
        try:
            return kind(form[name]) if name in form else value
        except (ValueError, OverflowError):
            raise UsageError(
                f"{name} is not a {'whole ' if kind is int else ''}number: {form[name][:80]}", fix="Correct it."
            ) from None

    longest = int(number("max_new_tokens", int, max_new_tokens))
    if not 1 <= longest <= MOST_NEW_TOKENS:
        raise UsageError(f"max_new_tokens is {longest}", fix=f"It is between 1 and {MOST_NEW_TOKENS}.")
    return Sampling(
        temperature=number("temperature", float, sampling.temperature),
        top_k=int(number("top_k", int, sampling.top_k)),
        top_p=number("top_p", float, sampling.top_p),
        min_p=number("min_p", float, sampling.min_p),
        seed=int(number("seed", int, sampling.seed)),
    ), longest


def chosen(choices: Sequence[Choice], name: str | None) -> Choice:
    """Return a choice by its key or its name; without one the first.

    Raises:
        UsageError: There is no such choice, or none at all.
    """
    if not choices:
        raise UsageError("there is nobody to ask", fix="Train something, or start with --model MODEL.")
    for choice in choices:
        if name in (None, choice.key, choice.name):
            return choice
    hint = did_you_mean(name or "", [choice.name for choice in choices])
    raise UsageError(
        f'there is no "{(name or "")[:80]}" to ask.{hint}', fix="Go back to the playground and choose anew."
    )


def others(choices: Sequence[Choice], policy: Choice) -> dict[str, str]:
    """Return who can stand beside a policy, the usual one first: what forms say, and what pages say for it."""
    first = {} if policy.reference is None else {REFERENCE: f"its reference, {policy.reference}"}
    rest = {choice.key: choice.name for choice in choices if choice.name != policy.name}
    return {**first, NOBODY: "nobody", **rest}


def voices_of(choices: Sequence[Choice], policy: Choice, beside: str | None) -> dict[Side, Voice]:
    """Return who is asked, by side: the policy at the left, and who stands beside it.

    Args:
        choices: Who can be asked.
        policy: Who was chosen.
        beside: A key of `others`, or a name; None = the usual one.

    Raises:
        UsageError: There is no such other.
    """
    left = Voice("policy" if policy.reference is not None else "model", policy.name, policy.path, policy.path)
    beside = next(iter(others(choices, policy))) if beside is None else beside
    if beside == NOBODY:
        return {"left": left}
    if beside == REFERENCE:
        if policy.reference is None:
            raise UsageError("it has no reference", where=policy.name, fix="Choose another one, or nobody.")
        return {"left": left, "right": Voice("reference", policy.reference, policy.reference, policy.path)}
    other = chosen(choices, beside)
    return {"left": left, "right": Voice("other model", other.name, other.path, other.path)}
