"""Rows to measure with: made up to stated lengths in tokens, or real ones. Either way a plain file of pairs.

Made-up rows need no data set, so anyone can repeat a table. Their words are runs of ordinary prose in which every
word is one token, so a text has exactly the length that was drawn for it. The lengths of n rows are the n middle
quantiles of a lognormal distribution, shuffled: the same distribution for every n, without the luck of a draw.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import NormalDist

from penchant.data.source import load_pairs
from penchant.tokens.chat import ChatFormat
from penchant.types import Turn

MAX_TOKENS = 512
_ROOM_FOR_RESPONSES = 64  # tokens that the longest prompt leaves free
_SHORTEST_RESPONSE = 4
_PROMPT_WORDS = 4  # a prompt's fewest, after what the chat template prints by itself


@dataclass(frozen=True)
class Lengths:
    """A lognormal distribution of lengths in tokens, by its mean and the spread of its logarithm (0 = fixed)."""

    mean: float
    spread: float

    def quantiles(self, count: int) -> list[int]:
        """Return the middle quantiles of `count` equal parts, ascending."""
        middle = math.log(self.mean) - self.spread**2 / 2
        normal = NormalDist()
        return [round(math.exp(middle + self.spread * normal.inv_cdf((i + 0.5) / count))) for i in range(count)]


_CV_06 = math.sqrt(math.log(1 + 0.6**2))  # the spread that gives a coefficient of variation of 0.6

# Prompt, chosen and rejected, not cut yet. The means of 32 "hh-like" rows, and about the 90th percentiles,
# are those of HH-RLHF harmless-base: prompt 125 and 273, chosen 40 and 87, rejected 50 and 108.
MIXES = {
    "hh-like": (Lengths(135, 0.95), Lengths(42, 1.1), Lengths(52, 1.05)),
    "long-prompts": (Lengths(384, _CV_06), Lengths(64, _CV_06), Lengths(64, _CV_06)),
    "long-responses": (Lengths(64, _CV_06), Lengths(256, _CV_06), Lengths(256, _CV_06)),
    "fixed-384-64": (Lengths(384, 0), Lengths(64, 0), Lengths(64, 0)),
    "fixed-64-256": (Lengths(64, 0), Lengths(256, 0), Lengths(256, 0)),
    "fixed-128-128": (Lengths(128, 0), Lengths(128, 0), Lengths(128, 0)),
}


def write_made_up(path: Path, lengths: Sequence[Lengths], count: int, chat: ChatFormat) -> None:
    """Write `count` pairs whose prompt, chosen and rejected lengths follow `lengths`, capped at 512 in all."""
    draw = random.Random(0)
    words = _one_token_words(chat)
    columns = [one.quantiles(count) for one in lengths]
    for column in columns:
        draw.shuffle(column)
    turns = (Turn("user", words[0]),)
    least = len(chat.prompt_ids(turns)) + _PROMPT_WORDS - 1

    def text(tokens: int, count_tokens: Callable[[str], int]) -> str:
        start = draw.randrange(len(words))
        run = [words[(start + place) % len(words)] for place in range(tokens)]
        while count_tokens(" ".join(run)) > tokens:  # what the template adds, and a first word of two tokens
            run.pop()
        return " ".join(run)

    with path.open("w", encoding="utf-8") as file:
        for number, (wanted, *responses) in enumerate(zip(*columns, strict=True)):
            prompt = max(least, min(wanted, MAX_TOKENS - _ROOM_FOR_RESPONSES))
            room = MAX_TOKENS - prompt
            chosen, rejected = (max(_SHORTEST_RESPONSE, min(length, room)) for length in responses)
            row = {
                "id": str(number),
                "prompt": text(prompt, lambda words: len(chat.prompt_ids((Turn("user", words),)))),
                "chosen": text(chosen, lambda words: len(chat.response_ids(turns, words))),
                "rejected": text(rejected, lambda words: len(chat.response_ids(turns, words))),
            }
            file.write(json.dumps(row) + "\n")


def write_real(path: Path, source: Path, count: int) -> None:
    """Write the first `count` pairs of a file whose two sides have one prompt.

    Raises:
        SystemExit: There are fewer.
    """
    pairs, _ = load_pairs(source, split=None, limit=None)
    plain = [pair for pair in pairs if not (pair.chosen_lead or pair.rejected_lead)][:count]
    if len(plain) < count:
        raise SystemExit(f"{source} has {len(plain)} pairs with one prompt, {count} are asked for")
    with path.open("w", encoding="utf-8") as file:
        for number, pair in enumerate(plain):
            prompt = [turn.as_message() for turn in pair.prompt]
            row = {"id": str(number), "prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}
            file.write(json.dumps(row) + "\n")


def _one_token_words(chat: ChatFormat) -> list[str]:
    text = (resources.files("penchant.evaluation") / "ordinary_text.txt").read_text(encoding="utf-8")
    words = [word for word in text.split() if word.isalpha()]
    ids = chat.tokenizer([f" {word}" for word in words], add_special_tokens=False).input_ids
    return [word for word, tokens in zip(words, ids, strict=True) if len(tokens) == 1]
