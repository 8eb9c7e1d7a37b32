"""What an export is compared on: held-out pairs, conversations, and text that is easily cut wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.config import DataConfig, build_config
from penchant.data.house_style import house_style_file
from penchant.errors import PenchantError
from penchant.evaluation.run_record import RunRecord
from penchant.tokens.chat import ChatFormat, tokenize_pair
from penchant.types import PreferencePair, Turn
from penchant.workflow.run_record import held_out_texts
from penchant.workflow.setup import read_pairs

CONVERSATIONS: tuple[tuple[Turn, ...], ...] = (
    (Turn("user", "What is the capital of France?"),),
    (Turn("system", "Answer in one short sentence."), Turn("user", "Why is the sky blue?")),
    (Turn("user", "Count to 3."), Turn("assistant", "1, 2, 3."), Turn("user", "  And then?\n\nGo on.  ")),
    (
        Turn("system", "You are terse."),
        Turn("user", "Hi"),
        Turn("assistant", "Hello."),
        Turn("user", "Who are you?"),
        Turn("assistant", "A program."),
        Turn("user", "Good."),
    ),
)
# what cuts of text differ in: runs of spaces, digits, contractions, line ends, scripts, emoji
TRICKY = (
    "In 1984 there were 12,345.67 of  3 and   42 kinds",
    "a  1\n\n 22   333 4444 ",
    "I'm sure they'll say WE'VE don't 'tis it's",
    "def f(x):\n\treturn x  # a tab\n\n\n    y = 2\r\n",
    "naïve café über straße — “quoted” … 5€",
    "日本語とEnglishの混在 12月 ١٢٣ привет мир",
    "🚀🦙 emoji👩\u200d👩\u200d👧 !!!??? ------ ====",
    "snake_case camelCase x2y3 http://a.b/c?d=1&e=2",
)


@dataclass(frozen=True)
class Passage:
    """A response behind its prompt, as ids of the policy's tokenizer."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


@dataclass(frozen=True)
class Passages:
    """What is compared.

    Attributes:
        source: Where the pairs are from.
        passages: Both responses of each pair.
        texts: Of these pairs, for the tokenizers.
    """

    source: str
    passages: tuple[Passage, ...]
    texts: tuple[str, ...]


def choose_passages(record: RunRecord | None, chat: ChatFormat, *, pairs: int) -> Passages:
    """Return the first held-out pairs of a run as passages, or of the packaged task where a run has none."""
    config = build_config({}).data if record is None else record.config.data
    found = list(held_out_texts(record).values()) if record is not None else []
    chosen = _fitting(found, chat, config, pairs)
    source = "held-out pairs of the run's data"
    if not chosen:
        packaged, _ = read_pairs(Path(house_style_file("test_pairs")), split=None)
        chosen = _fitting(packaged, chat, config, pairs) or _fitting(
            packaged, chat.in_format("plain"), config, pairs
        )
        source = "held-out pairs of the packaged task"
    passages = tuple(passage for _, both in chosen for passage in both)
    texts = tuple(
        text for pair, _ in chosen for text in (*(t.content for t in pair.prompt), pair.chosen, pair.rejected)
    )
    return Passages(source, passages, tuple(unicodedata.normalize("NFC", text) for text in texts if text))


def _fitting(
    pairs: Sequence[PreferencePair], chat: ChatFormat, config: DataConfig, most: int
) -> list[tuple[PreferencePair, tuple[Passage, ...]]]:
    found: list[tuple[PreferencePair, tuple[Passage, ...]]] = []
    for pair in pairs:
        if len(found) == most:
            break
        try:
            tokens, _ = tokenize_pair(pair, chat, config)
        except PenchantError:  # a base model has no form for conversations
            return []
        if tokens is not None:
            sides = [ids for ids in (tokens.chosen_ids, tokens.rejected_ids) if ids]
            found.append((pair, tuple(Passage(tokens.prompt_ids, ids) for ids in sides)))
    return found
