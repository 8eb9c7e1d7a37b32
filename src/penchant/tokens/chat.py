"""Chat turns to token ids, with the border between prompt and response known exactly.

The prompt ends where the model would start to speak: the template's generation header belongs to it. Prompt
and response are tokenised apart at that border, as at inference, so no token can straddle it. A response ends
with the template's end-of-turn token, which is trained; what a template prints after it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penchant.errors import ModelError
from penchant.types import LedgerEntry, PreferencePair, TokenizedPair, Turn


@dataclass(frozen=True)
class ChatFormat:
    """How one tokenizer turns conversations into ids.

    Attributes:
        tokenizer: A transformers tokenizer.
        end_id: The token that ends every response.
        has_template: False when the tokenizer has no chat template; then a prompt is plain text, and only
            single-turn prompts are possible.
    """

    tokenizer: Any
    end_id: int
    has_template: bool

    def prompt_ids(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """Return the ids of a conversation up to the point where the model speaks."""
        return self._encode_prompt(self._prompt_text(turns))

    def response_ids(self, turns: Sequence[Turn], response: str, *, complete: bool = True) -> tuple[int, ...]:
        """Return the ids of a response to `turns`, its end token included unless it is not complete."""
        ids = self._complete_response_ids(turns, response)
        return ids if complete else ids[:-1]

    def _complete_response_ids(self, turns: Sequence[Turn], response: str) -> tuple[int, ...]:
        if not self.has_template:
            return (*self._encode(response), self.end_id)
        prompt_text = self._prompt_text(turns)
        whole = self._render([*turns, Turn("assistant", response)], generation_header=False)
        if not whole.startswith(prompt_text):
            raise ModelError(
                "the chat template does not continue its own generation header, so the border between prompt "
                "and response is unknown",
                fix="Use a template whose rendered conversation starts with the rendered prompt.",
            )
        ids = self._encode(whole[len(prompt_text) :])
        ends = [index for index, token in enumerate(ids) if token == self.end_id]
        return ids[: ends[-1] + 1] if ends else (*ids, self.end_id)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of response ids without its special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def special_token_in(self, *texts: str) -> str | None:
        """Return the first special token that occurs literally in one of the texts, or None.

        Such text would become control tokens and forge turns, so rows that hold it are dropped.
        """
        for token in self.tokenizer.all_special_tokens:
            if any(token in text for text in texts):
                return token
        return None

    def _prompt_text(self, turns: Sequence[Turn]) -> str:
        if self.has_template:
            return self._render(turns, generation_header=True)
        if len(turns) != 1:
            raise ModelError(
                "the tokenizer has no chat template, so a conversation of several turns has no form",
                fix="Use an instruction-tuned model, or single-turn prompts.",
            )
        return turns[0].content

    def _render(self, turns: Sequence[Turn], *, generation_header: bool) -> str:
        messages = [turn.as_message() for turn in turns]
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation_header
        )

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _encode_prompt(self, text: str) -> tuple[int, ...]:
        if self.has_template:  # the template writes the special tokens itself; adding them would double BOS
            return self._encode(text)
        bos = self.tokenizer.bos_token_id
        return self._encode(text) if bos is None else (bos, *self._encode(text))


def chat_format(tokenizer: Any) -> ChatFormat:
    """Return the chat format of a tokenizer, with its end-of-response token found from the template.

    Raises:
        ModelError: The tokenizer has neither a template that ends turns with a special token nor an EOS token.
    """
    has_template = bool(getattr(tokenizer, "chat_template", None))
    end_id = _end_of_turn(tokenizer) if has_template else None
    if end_id is None:
        end_id = tokenizer.eos_token_id
    if end_id is None:
        raise ModelError(
            "the tokenizer has no end-of-sequence token, so no response could ever end",
            fix="Set `eos_token` in its tokenizer_config.json.",
        )
    return ChatFormat(tokenizer, int(end_id), has_template)


def _end_of_turn(tokenizer: Any) -> int | None:
    """The first special token that the template prints after an assistant's words, if there is one."""
    words = "penchant"
    messages = [Turn("user", "hello").as_message(), Turn("assistant", words).as_message()]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    _, _, suffix = text.rpartition(words)
    special = set(tokenizer.all_special_ids)
    for token in tokenizer(suffix, add_special_tokens=False).input_ids:
        if token in special:
            return token
    return None


def tokenize_pair(
    pair: PreferencePair, chat: ChatFormat, *, max_tokens: int
) -> tuple[TokenizedPair | None, LedgerEntry]:
    """Return the tokenized pair, or None, and the ledger entry that says what became of the row.

    A response that does not fit is cut at its end (and then has no end token); a prompt is never cut.

    Args:
        pair: The pair as text.
        chat: The model's chat format.
        max_tokens: Longest allowed prompt + response, tokens.
    """

    def fate(kind: str, reason: str = "", evidence: str = "") -> LedgerEntry:
        return LedgerEntry(pair.source, pair.line, pair.id, kind, reason, evidence)  # type: ignore[arg-type]

    texts = (*(turn.content for turn in pair.prompt), pair.chosen, pair.rejected)
    if token := chat.special_token_in(*texts):
        return None, fate("dropped", "special_token_in_text", token)
    prompt = chat.prompt_ids(pair.prompt)
    room = max_tokens - len(prompt)
    if room < 1:
        return None, fate("dropped", "prompt_too_long", f"{len(prompt)} tokens of {max_tokens}")
    whole_chosen = chat.response_ids(pair.prompt, pair.chosen, complete=pair.chosen_complete)
    whole_rejected = chat.response_ids(pair.prompt, pair.rejected, complete=pair.rejected_complete)
    chosen, rejected = whole_chosen[:room], whole_rejected[:room]
    if chosen == rejected:
        cut = len(whole_chosen) > room or len(whole_rejected) > room
        return None, fate("dropped", "identical_after_cut" if cut else "identical_tokens")
    tokenized = TokenizedPair(pair.id, prompt, chosen, rejected, pair.cluster)
    lost = len(whole_chosen) + len(whole_rejected) - len(chosen) - len(rejected)
    if lost:
        return tokenized, fate("cut", "response_too_long", f"{lost} response tokens")
    return tokenized, fate("kept")
