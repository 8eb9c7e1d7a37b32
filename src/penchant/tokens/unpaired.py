"""From pairs to single responses with a label, as KTO judges them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from penchant.types import TokenizedPair


def labelled_responses(pairs: Sequence[TokenizedPair], *, max_tokens: int, seed: int) -> list[TokenizedPair]:
    """Return every response as an example of its own: its chosen side, with `desirable` as its label.

    A pair gives two, its chosen response as desirable and its rejected one as undesirable; what has a label
    already gives one. The rejected side of an example is a response to another prompt, cut to fit: KTO measures by
    it how far the policy is from the reference. Each response serves once in that place, where there is another
    prompt.

    Args:
        pairs: Pairs, or labelled responses without a rejected side.
        max_tokens: Longest prompt + response.
        seed: Of who gets whose response.
    """
    examples = [example for pair in pairs for example in _responses(pair)]
    order = list(range(len(examples)))
    random.Random(f"labelled responses {seed}").shuffle(order)
    step = next(
        (gap for gap in range(1, len(order)) if _all_strangers(examples, order, gap)),
        max(1, len(order) // 2),
    )
    lenders = {order[place]: order[(place + step) % len(order)] for place in range(len(order))}
    return [
        _with_stranger(example, examples[lenders[index]], max_tokens) for index, example in enumerate(examples)
    ]


def _responses(pair: TokenizedPair) -> list[TokenizedPair]:
    if pair.desirable is not None:
        return [pair]
    alone = replace(pair, rejected_ids=(), rejected_scored=None, margin=None)
    other = replace(
        alone,
        chosen_ids=pair.rejected_ids,
        chosen_scored=pair.rejected_scored,
        chosen_complete=pair.rejected_complete,
    )
    return [
        replace(alone, id=f"{pair.id} chosen", desirable=True),
        replace(other, id=f"{pair.id} rejected", desirable=False),
    ]


def _all_strangers(examples: Sequence[TokenizedPair], order: Sequence[int], gap: int) -> bool:
    return all(
        examples[one].prompt_ids != examples[order[(place + gap) % len(order)]].prompt_ids
        for place, one in enumerate(order)
    )


def _with_stranger(example: TokenizedPair, lender: TokenizedPair, max_tokens: int) -> TokenizedPair:
    room = max(1, max_tokens - len(example.prompt_ids))
    mask = lender.chosen_scored
    return replace(
        example,
        rejected_ids=lender.chosen_ids[:room],
        rejected_scored=None if mask is None else mask[:room],
        rejected_complete=lender.chosen_complete and len(lender.chosen_ids) <= room,
    )
