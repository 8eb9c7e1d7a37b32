"""Which prompts a loop asks: its own, and others held out to measure by, none of them the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from penchant.data.house_style import house_style_file
from penchant.data.prompt_sets import read_prompts
from penchant.data.splits import rank, split_of
from penchant.errors import DataError
from penchant.evaluation.house_style import SYSTEM_PROMPT
from penchant.generation.conversations import place_of
from penchant.types import Prompt, Turn

PACKAGED = "house-style:"
HELD_OUT_FRACTION = 0.2
_SHOWN = 3


def named_prompts(name: str, system: str | None = None) -> list[Prompt]:
    """Return the prompts of a file, or packaged questions by `house-style:train`, `:validation` or `:test`.

    Args:
        name: Path or packaged name.
        system: A system turn before prompts that have none; the packaged questions have one of their own.

    Raises:
        DataError: The file cannot be read, or holds no prompts.
        UsageError: There are no such packaged questions.
    """
    if name.startswith(PACKAGED):
        path = house_style_file(f"{name.removeprefix(PACKAGED)}_questions")
        system = SYSTEM_PROMPT if system is None else system
    else:
        path = Path(name)
    prompts = list(read_prompts(path).prompts)
    if system is None:
        return prompts
    lead = Turn("system", system)
    return [p if p.turns[0].role == "system" else replace(p, turns=(lead, *p.turns)) for p in prompts]


def parted(
    prompts: Sequence[Prompt], held_out: Sequence[Prompt] | None, *, seed: int
) -> tuple[list[Prompt], list[Prompt]]:
    """Return the prompts to sample from, in the order in which rounds take them, and those held out.

    Without held-out prompts a fifth of the prompts is held out, by their text.

    Raises:
        DataError: A prompt has later turns, a held-out prompt asks what one of the others asks, or one of the two
            is empty.
    """
    for prompt in [*prompts, *(held_out or ())]:
        if prompt.later:
            raise DataError(
                f'the prompt "{prompt.id}" asks {1 + len(prompt.later)} questions one after another',
                where=place_of(prompt),
                fix="A pair is of two answers to the same turns: give the first question only, or the conversation"
                " up to its last one.",
            )
    if held_out is None:
        sides = [split_of(asked(p), seed=seed, test_fraction=HELD_OUT_FRACTION) for p in prompts]
        held_out = [prompt for prompt, side in zip(prompts, sides, strict=True) if side == "test"]
        prompts = [prompt for prompt, side in zip(prompts, sides, strict=True) if side == "train"]
    texts = {asked(prompt) for prompt in prompts}
    both = [prompt.id for prompt in held_out if asked(prompt) in texts]
    if both:
        shown = ", ".join(both[:_SHOWN]) + (", ..." if len(both) > _SHOWN else "")
        raise DataError(
            f"{len(both)} of the held-out prompts are asked in training too: {shown}",
            where="--held-out",
            fix="Remove them from one of the two files: what was trained on cannot show what was learnt.",
        )
    if not prompts or not held_out:
        raise DataError(
            f"{len(prompts)} prompts to sample from and {len(held_out)} held out", fix="Give more of them."
        )
    return sorted(prompts, key=lambda prompt: rank(f"online\n{prompt.id}", seed)), list(held_out)


def asked(prompt: Prompt) -> str:
    """Return what a prompt asks, without regard to case and white space; two that agree are the same prompt."""
    said = [f"{turn.role} {turn.content}" for turn in prompt.turns if turn.role != "system"]
    return "\n".join(" ".join(text.lower().split()) for text in said)
