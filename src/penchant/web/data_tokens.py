"""A row's tokens as a run would see them: what is scored, what is special, what is cut away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from penchant.config import DataConfig
from penchant.errors import PenchantError
from penchant.models.bundled import BUNDLED_NAME, bundled_is_here
from penchant.tokens.chat import ChatFormat, tokenize_pair
from penchant.tokens.show import Part, Piece, pieces
from penchant.types import LedgerEntry, PreferencePair, TokenizedPair
from penchant.web.data_sources import DataSource, run_settings

MOST_SHOWN = 4000  # tokens of a part
_NO_LIMIT = 1 << 30
_PARTS: tuple[Part, ...] = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Token:
    """A token on the page.

    Attributes:
        text: What it stands for; the end of a line is seen.
        id: Its id.
        state: scored, unscored (the model only reads it), or cut (left out).
        special: Whether it is a control token.
    """

    text: str
    id: int
    state: Literal["scored", "unscored", "cut"]
    special: bool


@dataclass(frozen=True)
class TokenPart:
    """Prompt, chosen or rejected.

    Attributes:
        name: Which.
        tokens: The first of them, what was cut included.
        kept: How many the model sees.
        scored: How many of these are scored.
        cut: How many are cut away.
    """

    name: str
    tokens: tuple[Token, ...]
    kept: int
    scored: int
    cut: int

    @property
    def hidden(self) -> int:
        """How many there are beyond those that are shown."""
        return self.kept + self.cut - len(self.tokens)


@dataclass(frozen=True)
class TokenView:
    """A row as tokens.

    Attributes:
        tokenizer: Whose.
        max_tokens: Longest prompt + response.
        parts: Of the row; empty when it has no form in this tokenizer.
        fate: What tokenising makes of it.
        note: What else a reader should know.
    """

    tokenizer: str
    max_tokens: int
    parts: tuple[TokenPart, ...]
    fate: LedgerEntry
    note: str = ""


class Tokenizers:
    """Tokenizers by the name of their model, each loaded when it is first asked for.

    Args:
        load: Makes a chat format of a name.
        model: Whose tokens are shown of data that belongs to no run; None takes the bundled model's.
    """

    def __init__(self, load: Callable[[str], ChatFormat], model: str | None) -> None:
        self._load, self._model = load, model
        self._loaded: dict[str, ChatFormat] = {}
        self._lock = threading.Lock()

    def name_for(self, source: DataSource) -> str:
        """Return the model whose tokenizer a source is shown with, "" when none is on this machine."""
        settings = run_settings(source.path) if source.kind == "run" else None
        if settings is not None and (source.path / "model").is_dir():
            return str(source.path)
        if settings is not None and Path(settings.model.path).exists():
            return settings.model.path
        if self._model is not None:
            return self._model
        return BUNDLED_NAME if bundled_is_here() else ""

    def view(self, pair: PreferencePair, source: DataSource) -> TokenView:
        """Return a row as tokens, as the run of the source was set up, else with the defaults.

        Raises:
            PenchantError: The tokenizer cannot be read.
        """
        name = self.name_for(source)
        with self._lock:
            chat = self._loaded.get(name) or self._loaded.setdefault(name, self._load(name))
        settings = run_settings(source.path) if source.kind == "run" else None
        config = settings.data if settings is not None else DataConfig()  # type: ignore[call-arg]  # pydantic's
        note = "" if settings is not None else "The settings are the defaults, since no run says others."
        if settings is not None and settings.objective.loss == "sft" and config.loss_turns == "all_assistant":
            note = "This run also scores the assistant's earlier turns, which are shown here as read only."
        return token_view(pair, chat, config, tokenizer=name, note=note)


def token_view(
    pair: PreferencePair, chat: ChatFormat, config: DataConfig, *, tokenizer: str, note: str = ""
) -> TokenView:
    """Return a row as tokens.

    Args:
        pair: The row.
        chat: Turns it into tokens.
        config: How it is cut.
        tokenizer: What to call `chat`.
        note: What else a reader should know.
    """
    try:
        used, fate = tokenize_pair(pair, chat, config)
        roomy = config.model_copy(update={"max_tokens": _NO_LIMIT})
        whole, _ = tokenize_pair(pair, chat, roomy)
    except PenchantError as error:
        fate = LedgerEntry(pair.source, pair.line, pair.id, "dropped", "no_form", error.what)
        return TokenView(tokenizer, config.max_tokens, (), fate, error.fix or "")
    if whole is None:
        return TokenView(tokenizer, config.max_tokens, (), fate, note)
    special = frozenset(chat.tokenizer.all_special_ids)
    names = _PARTS if pair.rejected else _PARTS[:2]
    parts = tuple(_part(name, _of(whole, name, chat), _of(used, name, chat), special) for name in names)
    return TokenView(tokenizer, config.max_tokens, parts, fate, note)


def _of(pair: TokenizedPair | None, name: str, chat: ChatFormat) -> list[Piece]:
    return [] if pair is None else [piece for piece in pieces(pair, chat.tokenizer) if piece.part == name]


def _part(name: str, whole: Sequence[Piece], used: Sequence[Piece], special: frozenset[int]) -> TokenPart:
    """The whole part, with what lies between its used beginning and its used end marked as cut."""
    ahead = _alike(whole, used)
    behind = _alike(whole[ahead:][::-1], used[ahead:][::-1])
    unmatched = len(used) - ahead - behind  # a shortened prompt is rendered anew, and may differ in between
    middle = [*used[ahead : ahead + unmatched]]
    tokens = [
        *(_token(piece, special) for piece in used[:ahead]),
        *(_token(piece, special, cut=True) for piece in whole[ahead : len(whole) - behind]),
        *(_token(piece, special) for piece in middle),
        *(_token(piece, special) for piece in used[ahead + unmatched :]),
    ]
    return TokenPart(
        name,
        tuple(tokens[:MOST_SHOWN]),
        len(used),
        sum(piece.scored for piece in used),
        len(tokens) - len(used),
    )


def _alike(one: Sequence[Piece], other: Sequence[Piece]) -> int:
    count = 0
    for piece, twin in zip(one, other, strict=False):
        if piece.id != twin.id:
            break
        count += 1
    return count


def _token(piece: Piece, special: frozenset[int], *, cut: bool = False) -> Token:
    state: Literal["scored", "unscored", "cut"] = "cut" if cut else "scored" if piece.scored else "unscored"
    text = piece.text.replace("\r\n", "\n").replace("\n", "↵\n")  # the end of a line is a character of a token
    return Token(text, piece.id, state, piece.id in special)
