"""The nouns that all layers share. Nothing here needs torch.

A row's way through the house, one direction, no way back:

    raw row -> PreferencePair -> TokenizedPair -> PairBatch -> PairLogps -> loss

(`PairBatch` and `PairLogps` hold tensors and live in `penchant.batching` and `penchant.objective`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Role
    content: str

    def as_message(self) -> dict[str, str]:
        """Return the chat-message dictionary that transformers' templates read."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class PreferencePair:
    """A prompt with its chosen and its rejected response, as text.

    Attributes:
        id: Unique within its data set; stable between runs.
        prompt: The conversation up to the response; its last turn is the user's (or the system's).
        chosen: The preferred response, without template or end token.
        rejected: The dispreferred response.
        source: File the row came from.
        line: 1-based line (or row) within `source`.
        cluster: Pairs that share it are not independent (same question); intervals are clustered by it.
        chosen_complete: False when the chosen response was cut off before its end; it then gets no end token.
        rejected_complete: Likewise.
    """

    id: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    source: str = ""
    line: int = 0
    cluster: str = ""
    chosen_complete: bool = True
    rejected_complete: bool = True


@dataclass(frozen=True)
class TokenizedPair:
    """A pair as final, truncated token ids; a response ends with its end-of-turn token unless it was cut.

    Every id of `chosen_ids` and `rejected_ids` is scored; no id of `prompt_ids` is.
    """

    id: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    cluster: str = ""

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward pass over the pair sees when the prompt is counted once."""
        return len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


Fate = Literal["kept", "cut", "dropped"]


@dataclass(frozen=True)
class LedgerEntry:
    """What became of one input row: exactly one fate, and one reason unless it was kept whole."""

    source: str
    line: int
    id: str
    fate: Fate
    reason: str = ""
    evidence: str = ""
