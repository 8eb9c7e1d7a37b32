"""Pairs as TRL 1.16 turns them into ids: prompt and response as one text, and all that follows the prompt scored.

The border lies where the ids of the prompt alone and those of prompt and response part; so a token may straddle
it, and what a template prints after the end of a turn is scored too. A side is cut where the room ends, whatever
the other one needs; only a pair whose prompt leaves no room is dropped. `data.format: trl_chat` renders messages
by the tokenizer's template, `trl_text` takes a prompt of one turn as bare text and ends responses with EOS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from penchant.tokens.truncate import NO_SIDE, EncodedPair, EncodedSide, Fitted, cut_side
from penchant.types import PreferencePair, Turn

Encode = Callable[[Sequence[Turn], bool], tuple[int, ...]]
"""From turns, and whether the model is to speak next, to the ids of all of it."""


def joined_pair(pair: PreferencePair, encode: Encode, *, end: str = "") -> EncodedPair:
    """Return a pair as ids, not truncated.

    Args:
        pair: The pair as text.
        encode: Of the form.
        end: What a response ends with, unless it does so already.
    """
    prompt = encode(pair.prompt, True)
    sides = [(pair.chosen_lead, pair.chosen)] + ([(pair.rejected_lead, pair.rejected)] if pair.rejected else [])
    wholes = [encode((*pair.prompt, *lead, _ended(response, end)), False) for lead, response in sides]
    border = min(_shared(prompt, whole) for whole in wholes)
    found = [EncodedSide(whole[border:], None, complete=True) for whole in wholes]
    return EncodedPair(prompt[:border], found[0], found[1] if len(found) > 1 else NO_SIDE)


def fit_joined(whole: EncodedPair, max_tokens: int) -> Fitted:
    """Return the pair with each side cut at `max_tokens`, or dropped where the prompt fills them."""
    room = max_tokens - len(whole.prompt_ids)
    if not whole.chosen.ids or (whole.rejected != NO_SIDE and not whole.rejected.ids):
        return Fitted(None, "nothing_scored_after_cut", "a side has no token of its own")
    if room < 1:
        return Fitted(None, "prompt_too_long", f"{len(whole.prompt_ids)} tokens, {max_tokens - 1} allowed")
    if whole.longest_side <= room:
        return Fitted(whole)
    cut = replace(whole, chosen=cut_side(whole.chosen, room), rejected=cut_side(whole.rejected, room))
    lost = [len(one.ids) - len(other.ids) for one, other in _sides(whole, cut)]
    return Fitted(cut, "response_cut", "tokens lost: prompt 0, chosen {}, rejected {}".format(*lost))


def _ended(response: str, end: str) -> Turn:
    return Turn("assistant", response if response.endswith(end) else response + end)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)


def _sides(whole: EncodedPair, cut: EncodedPair) -> list[tuple[EncodedSide, EncodedSide]]:
    return [(whole.chosen, cut.chosen), (whole.rejected, cut.rejected)]
