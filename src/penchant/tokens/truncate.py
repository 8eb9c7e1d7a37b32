"""What becomes of a pair that does not fit into `data.max_tokens`. Every loss is named and counted.

* `cut` (default): the responses are granted `response_fraction` of the room, or what they need if that is less.
  A prompt that leaves them this is not touched. From a longer one the oldest exchanges go, whole, after a leading
  system turn; if the last exchange alone is too long, its user's words lose their beginning. Both are done to the
  turns, which are rendered anew, so no header is ever cut. Then both responses are cut where the room ends.
* `keep_start`: the prompt is never cut, both responses are cut where the room ends.
* `drop`: nothing is cut.

A response that was cut has no end-of-turn token and is marked as incomplete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from penchant.config import DataConfig
from penchant.types import Turn

Turns = tuple[Turn, ...]


@dataclass(frozen=True)
class EncodedSide:
    """One side of a pair after the prompt.

    Attributes:
        ids: Its tokens.
        scored: Whether each is scored; None = all are.
        complete: Whether it ends with its end-of-turn token.
    """

    ids: tuple[int, ...]
    scored: tuple[bool, ...] | None
    complete: bool


NO_SIDE = EncodedSide((), None, complete=True)
"""The rejected side of an example to imitate."""


@dataclass(frozen=True)
class EncodedPair:
    """A pair as ids; of an example to imitate the rejected side holds none."""

    prompt_ids: tuple[int, ...]
    chosen: EncodedSide
    rejected: EncodedSide

    @property
    def longest_side(self) -> int:
        """Tokens of the longer side, prompt not counted."""
        return max(len(self.chosen.ids), len(self.rejected.ids))

    @property
    def identical(self) -> bool:
        """Whether nothing is left to prefer; an example is not there to be preferred."""
        return self.rejected != NO_SIDE and self.chosen.ids == self.rejected.ids


@dataclass(frozen=True)
class Fitted:
    """What became of a pair: the pair, or None when it is dropped; a reason, "" when it is whole; the evidence."""

    pair: EncodedPair | None
    reason: str = ""
    evidence: str = ""


def fit(
    whole: EncodedPair,
    prompt: Turns,
    *,
    encode: Callable[[Turns], EncodedPair],
    prompt_tokens: Callable[[Turns], int],
    config: DataConfig,
) -> Fitted:
    """Return the pair cut to `config.max_tokens` as `config.truncation` says, or dropped with the reason.

    Args:
        whole: The whole pair.
        prompt: Its prompt.
        encode: Encodes the pair with another prompt.
        prompt_tokens: How many tokens a prompt takes.
        config: The limit and what to do about it.
    """
    if whole.identical:
        return Fitted(None, "identical_tokens")
    if len(whole.prompt_ids) + whole.longest_side <= config.max_tokens:
        return Fitted(whole)
    if config.truncation == "drop":
        return Fitted(None, "too_long", f"{_lengths(whole)} tokens of {config.max_tokens}")
    pair: EncodedPair | None = whole
    budget = prompt_budget(whole.longest_side, config)
    if config.truncation == "cut" and len(whole.prompt_ids) > budget:
        # what the template prints after the generation header counts too
        more = len(whole.prompt_ids) - prompt_tokens(prompt)
        shorter = shorten_prompt(prompt, lambda turns: prompt_tokens(turns) + more <= budget, budget)
        pair = None if shorter is None else encode(shorter)
    if pair is None or len(pair.prompt_ids) > budget:
        return Fitted(None, "prompt_too_long", f"{len(whole.prompt_ids)} tokens, {budget} allowed")
    room = config.max_tokens - len(pair.prompt_ids)
    return _named(whole, replace(pair, chosen=cut_side(pair.chosen, room), rejected=cut_side(pair.rejected, room)))


def prompt_budget(longest_side: int, config: DataConfig) -> int:
    """Return how many tokens a prompt may take before it is cut, or the pair dropped with `keep_start`."""
    if config.truncation != "cut":
        return config.max_tokens - 1
    granted = math.ceil(config.response_fraction * config.max_tokens)
    return config.max_tokens - min(longest_side, granted)


def cut_side(side: EncodedSide, room: int) -> EncodedSide:
    """Return the side's first `room` tokens; without its last one it is no longer complete."""
    if len(side.ids) <= room:
        return side
    if side.scored is None:
        return EncodedSide(side.ids[:room], None, complete=False)
    scored = side.scored[:room]
    end = max((place + 1 for place, one in enumerate(scored) if one), default=0)  # the rest would serve nobody
    return EncodedSide(side.ids[:end], scored[:end], complete=False)


def shorten_prompt(turns: Turns, fits: Callable[[Turns], bool], guess: int) -> Turns | None:
    """Return the longest end of a conversation that fits, or None when nothing of its last exchange does.

    Args:
        turns: The conversation. Leading system turns stay; every result goes on with a user's turn.
        fits: Whether a conversation is short enough.
        guess: About how many characters of a turn may fit.
    """
    ends = [turns, *_ends(turns)]
    for end in ends[1:]:
        if fits(end):
            return end
    shortest = ends[-1]
    place = next((index for index, turn in enumerate(shortest) if turn.role == "user"), None)
    if place is None:
        return None

    def with_words(words: str) -> Turns:
        return (*shortest[:place], replace(shortest[place], content=words), *shortest[place + 1 :])

    words = longest_end(shortest[place].content, lambda text: fits(with_words(text)), guess)
    return with_words(words) if words.strip() else None


def longest_end(text: str, fits: Callable[[str], bool], guess: int) -> str:
    """Return a longest end of `text` that fits, "" when not one character does.

    `fits` is taken to hold for every end of what it holds for. Where that fails (a token may begin within a
    character's neighbourhood), the result still fits, but a somewhat longer end may fit too.
    """
    low, high = 0, max(1, guess)
    while high < len(text) and fits(text[-high:]):  # from small to large: a very long text is never read whole
        low, high = high, 2 * high
    high = high if high < len(text) else len(text) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[-middle:]) else (low, middle)
    return text[len(text) - low :]


def _ends(turns: Turns) -> Iterator[Turns]:
    """The conversation without its oldest exchange, without its two oldest, and so on."""
    leading = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    starts = [index for index in range(leading + 1, len(turns)) if turns[index].role == "user"]
    for start in starts:
        yield (*turns[:leading], *turns[start:])


def _named(whole: EncodedPair, cut: EncodedPair) -> Fitted:
    """The cut pair with the name and the size of what it lost."""
    lost = [len(one) - len(other) for one, other in zip(_parts(whole), _parts(cut), strict=True)]
    evidence = "tokens lost: prompt {}, chosen {}, rejected {}".format(*lost)
    if cut.identical:
        return Fitted(None, "identical_after_cut", evidence)
    if not all(side.scored is None or any(side.scored) for side in (cut.chosen, cut.rejected)):
        return Fitted(None, "nothing_scored_after_cut", evidence)
    responses = lost[1] or lost[2]
    reason = "prompt_and_response_cut" if lost[0] and responses else "prompt_cut" if lost[0] else "response_cut"
    return Fitted(cut, reason, evidence)


def _parts(pair: EncodedPair) -> Sequence[tuple[int, ...]]:
    return pair.prompt_ids, pair.chosen.ids, pair.rejected.ids


def _lengths(pair: EncodedPair) -> str:
    return "prompt {}, chosen {}, rejected {}".format(*map(len, _parts(pair)))
