"""Words that rows are found by, and the same words in what somebody types: no syntax of the index gets through."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from penchant.errors import UsageError

MOST_TYPED = 500  # characters
FIELDS = ("prompt", "chosen", "rejected", "id")
# a script without spaces has no words to speak of, so each of its characters is one
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')


def words_of(text: str) -> list[str]:
    """Return the words of a text: runs of letters, digits and underscores; case and Unicode form do not count."""
    normal = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _WORD.findall(normal.casefold())


@dataclass(frozen=True)
class Term:
    """Words that follow each other.

    Attributes:
        words: At least one.
        begins: Whether the last one is only a beginning.
    """

    words: tuple[str, ...]
    begins: bool = False


def terms_of(typed: str) -> list[Term]:
    """Return what a search asks for; all terms must be in a row.

    Words stand for themselves, "words in quotes" must follow each other, and `word*` is a beginning. Everything
    else that is typed only separates words.

    Raises:
        UsageError: That is more than somebody types.
    """
    if len(typed) > MOST_TYPED:
        raise UsageError(f"a search is at most {MOST_TYPED} characters", fix="Search for fewer words.")
    found = []
    for quoted, bare in _TERM.findall(typed):
        if words := words_of(quoted or bare):
            found.append(Term(tuple(words), bare.endswith("*")))
    return found


def match_expression(terms: Sequence[Term], field: str = "") -> str:
    """Return the query of the full-text index for the terms, in one field or in any. Words hold no quotes."""
    phrases = " AND ".join('"' + " ".join(term.words) + '"' + ("*" if term.begins else "") for term in terms)
    return f"{{{field}}} : ({phrases})" if field else phrases


def first_hit(text: str, terms: Sequence[Term]) -> tuple[int, int] | None:
    """Return where the first word of a term stands in a text as it is written, None where none does."""
    for term in terms:
        pattern = rf"(?<!\w){re.escape(term.words[0])}" + ("" if term.begins else r"(?!\w)")
        if found := re.search(pattern, text, re.IGNORECASE):
            return found.span()
    return None
