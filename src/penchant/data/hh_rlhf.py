r"""Transcripts of the HH-RLHF family: one string a conversation, turns opened by a blank line and a role.

    "\n\nHuman: How tall is it?\n\nAssistant: About two metres."

Only a role word after a blank line opens a turn. The same word anywhere else is text: responses do quote
dialogues.
"""

from __future__ import annotations

import re

from penchant.errors import DataError
from penchant.types import Role, Turn

_OPENING = "\n\nHuman:"
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Return whether `text` begins as a transcript does."""
    return text.startswith(_OPENING)


def parse_transcript(text: str) -> list[Turn]:
    """Split a transcript into its turns, each without surrounding whitespace.

    Nothing is repaired: empty turns and a role that speaks twice in a row come out as they are.

    Raises:
        DataError: `text` does not begin with a human turn.
    """
    if not is_transcript(text):
        raise DataError("a transcript begins with two newlines and Human:")
    _, *parts = _MARKER.split(text)
    words, contents = parts[::2], parts[1::2]
    return [Turn(_ROLES[word], content.strip()) for word, content in zip(words, contents, strict=True)]
