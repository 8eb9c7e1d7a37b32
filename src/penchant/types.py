"""The nouns that all layers share. Nothing here needs torch.

A row's way through the house, one direction, no way back:

    raw row -> PreferencePair -> TokenizedPair -> PairBatch -> PairLogps -> loss

(`PairBatch` and `PairLogps` hold tensors and live in `penchant.batching` and `penchant.objective`.)
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from penchant.errors import UsageError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: Who speaks.
        content: What is said.
        tool_calls: JSON text of the tool calls of an assistant's turn, "" when there are none.
    """

    role: Role
    content: str
    tool_calls: str = ""

    def as_message(self) -> dict[str, Any]:
        """Return the chat-message dictionary that transformers' templates read."""
        calls = {"tool_calls": json.loads(self.tool_calls)} if self.tool_calls else {}
        return {"role": self.role, "content": self.content, **calls}


@dataclass(frozen=True)
class PreferencePair:
    """A prompt with its chosen and its rejected response, as text.

    Attributes:
        id: Unique within its data set; stable between runs.
        prompt: The conversation up to the response; its last turn is the user's (or the system's).
        chosen: The preferred response, without template or end token.
        rejected: The dispreferred response; "" when there is none, and the row is an example to imitate.
        source: File the row came from.
        line: 1-based line (or row) within `source`.
        cluster: Pairs that share it are not independent (same question); intervals are clustered by it.
        chosen_complete: False when the chosen response was cut off before its end; it then gets no end token.
        rejected_complete: Likewise.
        chosen_lead: Turns of the chosen side between the shared prompt and `chosen`, when the two sides part
            before their last turn: an assistant's turn first, a user's or a tool's last. Empty in most data.
        rejected_lead: Likewise.
        weight: How much the pair counts, > 0; None when the data does not say.
        margin: By how much the chosen response is better, in the data's own unit; None likewise.
        confidence: Probability that the label is right, in (0.5, 1]; None likewise.
        desirable: Of a single response whether it is a desirable one; None where it is not said.
        score_chosen: The data's score of the chosen response; None likewise.
        score_rejected: Likewise.
        origin: Where the data says the row came from (its `source` column), "" when it does not.
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
    chosen_lead: tuple[Turn, ...] = ()
    rejected_lead: tuple[Turn, ...] = ()
    weight: float | None = None
    margin: float | None = None
    score_chosen: float | None = None
    score_rejected: float | None = None
    origin: str = ""
    confidence: float | None = None
    desirable: bool | None = None


@dataclass(frozen=True)
class TokenizedPair:
    """A pair as final, truncated token ids, and which of them are scored.

    No id of `prompt_ids` is scored: what both sides begin with cancels, assistant turns in it included. A complete
    response ends with its end-of-turn token; one that was cut, here or in the data, does not.

    Attributes:
        id: Of the pair.
        prompt_ids: What both sides begin with, up to the point where the model speaks.
        chosen_ids: What follows on the chosen side.
        rejected_ids: Likewise; () when there is nothing but an example to imitate.
        cluster: See `PreferencePair`.
        chosen_scored: Whether each id of `chosen_ids` is scored; None = all are.
        rejected_scored: Likewise.
        chosen_complete: Whether the chosen side ends with its end-of-turn token.
        rejected_complete: Likewise.
        weight: See `PreferencePair`.
        margin: Likewise; where the data scores both responses and has no margin, the difference of the scores.
        confidence: See `PreferencePair`.
        desirable: For KTO: whether the chosen side is a desirable response; the rejected side then is a response
            to another prompt, by which the distance from the reference is measured.
    """

    id: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    cluster: str = ""
    chosen_scored: tuple[bool, ...] | None = None
    rejected_scored: tuple[bool, ...] | None = None
    chosen_complete: bool = True
    rejected_complete: bool = True
    weight: float | None = None
    margin: float | None = None
    confidence: float | None = None
    desirable: bool | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward pass over the pair sees when the prompt is counted once."""
        return len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)

    @property
    def num_scored(self) -> tuple[int, int]:
        """Scored tokens of the chosen and of the rejected side."""
        chosen = len(self.chosen_ids) if self.chosen_scored is None else sum(self.chosen_scored)
        rejected = len(self.rejected_ids) if self.rejected_scored is None else sum(self.rejected_scored)
        return chosen, rejected

    @property
    def scored_content(self) -> list[tuple[int, ...] | tuple[bool, ...] | None]:
        """All that the pair's log-probabilities depend on: the ids, and the masks where there are any."""
        ids: list[tuple[int, ...] | tuple[bool, ...] | None] = [
            self.prompt_ids,
            self.chosen_ids,
            self.rejected_ids,
        ]
        if self.chosen_scored is None and self.rejected_scored is None:
            return ids
        return [*ids, self.chosen_scored, self.rejected_scored]

    def with_scored_prompt(self) -> TokenizedPair:
        """Return the pair with the prompt's ids scored too, on both sides; the first has nothing before it."""
        lead = (True,) * (len(self.prompt_ids) - 1)
        return replace(
            self,
            prompt_ids=self.prompt_ids[:1],
            chosen_ids=self.prompt_ids[1:] + self.chosen_ids,
            rejected_ids=self.prompt_ids[1:] + self.rejected_ids,
            chosen_scored=None if self.chosen_scored is None else lead + self.chosen_scored,
            rejected_scored=None if self.rejected_scored is None else lead + self.rejected_scored,
        )

    def swapped(self) -> TokenizedPair:
        """Return the pair with chosen and rejected in each other's place."""
        return TokenizedPair(
            self.id,
            self.prompt_ids,
            self.rejected_ids,
            self.chosen_ids,
            self.cluster,
            self.rejected_scored,
            self.chosen_scored,
            self.rejected_complete,
            self.chosen_complete,
            self.weight,
            None if self.margin is None else -self.margin,
            self.confidence,
        )


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, without an answer to compare with.

    Attributes:
        id: Unique within its set; stable between runs.
        turns: The conversation up to the answer; its last turn is the user's.
        category: Subset it belongs to ("safe", "writing", ...), "" when the set has none.
        later: Further turns of the user, each asked after the answer to the one before.
        facts: Further columns of the set (an instruction's arguments, a label), as JSON values.
        source: File it came from.
        line: 1-based row within `source`.
    """

    id: str
    turns: tuple[Turn, ...]
    category: str = ""
    later: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    line: int = 0

    @property
    def text(self) -> str:
        """What the user says last."""
        return self.turns[-1].content


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt.

    Attributes:
        text: Its words, without template or end token.
        finished: Whether the model ended it by itself, rather than being cut off.
        tokens: How many tokens it took, 0 when that is not known.
    """

    text: str
    finished: bool = True
    tokens: int = 0


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. What has been said already is not made less likely (no repetition penalty).

    Attributes:
        temperature: 0 chooses the likeliest token; otherwise scores are divided by it.
        top_k: Only this many likeliest tokens can be chosen; 0 = the whole vocabulary.
        top_p: Only the likeliest tokens that together hold this share of the probability, in (0, 1]; Holtzman et
            al. 2020 (arXiv:1904.09751).
        seed: Of the rows' uniform numbers.
        min_p: Only tokens at least this share as likely as the likeliest one, in [0, 1]; Nguyen et al. 2024
            (arXiv:2407.01082).

    Raises:
        UsageError: A value is out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        wrong = [
            (name, value, allowed)
            for name, value, allowed, right in (
                ("temperature", self.temperature, "0 or more", 0 <= self.temperature < math.inf),
                ("top_k", self.top_k, "0 (the whole vocabulary) or more", self.top_k >= 0),
                ("top_p", self.top_p, "above 0 and at most 1", 0 < self.top_p <= 1),
                ("min_p", self.min_p, "between 0 and 1", 0 <= self.min_p <= 1),
                ("seed", self.seed, "0 or more", self.seed >= 0),
            )
            if not right
        ]
        for name, value, allowed in wrong[:1]:
            raise UsageError(f"{name} is {value}", fix=f"It is {allowed}.")


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
