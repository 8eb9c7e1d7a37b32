"""Chat turns to token ids, with the border between prompt and response known exactly.

The prompt ends where the model would start to speak: the template's generation header belongs to it. Prompt
and response are tokenised apart at that border, as at inference, so no token can straddle it. A response ends
with the template's end-of-turn token, which is trained; what a template prints after it is not.

A side of a pair may hold turns of its own before its response (its lead). By default only the response is scored;
with `data.loss_turns: all_assistant` the lead's assistant turns are too, each with its end-of-turn token. A user's
or a tool's turn never is, and neither is an assistant's turn in the prompt: both sides hold it, so it cancels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from penchant.config import TRL_FORMATS, DataConfig, Format
from penchant.errors import ModelError
from penchant.tokens.borders import BorderUnknownError, Stretch, find_side, shared_prompt, stretches
from penchant.tokens.joined import fit_joined, joined_pair
from penchant.tokens.template_guard import check_template, render_within_limits
from penchant.tokens.transcript import ASSISTANT, HUMAN, TemplateRefusalError, render_transcript
from penchant.tokens.truncate import NO_SIDE, EncodedPair, EncodedSide, fit
from penchant.types import Fate, LedgerEntry, PreferencePair, TokenizedPair, Turn

Form = Literal["template", "plain", "transcript"]

_MOST_TOLD = 300
_EXAMPLE = (Turn("user", "hello"), Turn("assistant", "penchant"))


@dataclass(frozen=True)
class ChatFormat:
    """How one tokenizer turns conversations into ids.

    Attributes:
        tokenizer: A transformers tokenizer.
        end_id: The token that ends every response.
        form: The tokenizer's chat template; plain text of a single-turn prompt, for a tokenizer without one; or a
            transcript, see `penchant.tokens.transcript`.
    """

    tokenizer: Any
    end_id: int
    form: Form

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer's own chat template is used."""
        return self.form == "template"

    def in_format(self, name: Format) -> ChatFormat:
        """Return this format, or the transcript or plain format of the same tokenizer.

        Raises:
            ModelError: The tokenizer has no EOS token, which ends a transcript or plain text.
        """
        if name in ("chat", "trl_chat"):
            return self
        return self._as_transcript if name == "transcript" else self._as_plain

    def prompt_ids(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """Return the ids of a conversation up to the point where the model speaks.

        Raises:
            ModelError: The conversation has no form in this format, or holds a control token as text.
        """
        if token := self.special_token_in(*(turn.content for turn in turns)):
            raise TemplateRefusalError(f"the text holds the control token {token}, which would forge a turn")
        return (*self._bos, *self._encode(self._render(turns, True)))

    def response_ids(self, turns: Sequence[Turn], response: str, *, complete: bool = True) -> tuple[int, ...]:
        """Return the ids of a response to `turns`, its end token included unless it is not complete.

        Raises:
            ModelError: The border between prompt and response is unknown.
        """
        self._check_header()
        try:
            side = find_side(self._render, turns, (), response, end_text=self._end_text, complete=complete)
        except BorderUnknownError as error:
            raise ModelError(f"the chat template hides where the response stands: {error}") from error
        prompt = shared_prompt(side, side)
        return self._encode_side(prompt, stretches(side, prompt), complete=complete, ended=side.ended).ids

    def encode_pair(
        self, pair: PreferencePair, prompt: Sequence[Turn], *, every_turn: bool = False
    ) -> EncodedPair:
        """Return a pair as ids, not truncated.

        Args:
            pair: The pair as text.
            prompt: Taken in place of the pair's own prompt.
            every_turn: Whether the assistant turns of the leads are scored, too.

        Raises:
            BorderUnknownError: It cannot be known where the prompt or a scored turn begins or ends.
            ModelError: The conversation has no form in this format.
        """
        self._check_header()
        given = [(pair.chosen_lead, pair.chosen, pair.chosen_complete)]
        if pair.rejected:
            given.append((pair.rejected_lead, pair.rejected, pair.rejected_complete))
        sides = [
            find_side(
                self._render,
                prompt,
                lead,
                response,
                end_text=self._end_text,
                complete=complete,
                every_turn=every_turn,
            )
            for lead, response, complete in given
        ]
        text = shared_prompt(sides[0], sides[-1])
        chosen, *rejected = (
            self._encode_side(text, stretches(side, text), complete=complete, ended=side.ended)
            for side, (_, _, complete) in zip(sides, given, strict=True)
        )
        return EncodedPair((*self._bos, *self._encode(text)), chosen, *(rejected or [NO_SIDE]))

    def encode_joined(self, pair: PreferencePair) -> EncodedPair:
        """Return a pair as TRL turns it into ids, not truncated, see `penchant.tokens.joined`.

        Raises:
            ModelError: The conversation has no form in this format.
        """
        end = "" if self.form == "template" else self._end_text
        return joined_pair(pair, self._encode_whole, end=end)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of response ids without its special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def special_token_in(self, *texts: str) -> str | None:
        """Return the first special token or turn marker that occurs literally in one of the texts, or None.

        Such text would become control tokens and forge turns, so rows that hold it are dropped.
        """
        found = (self._markers.search(text) for text in texts)
        return next((match.group() for match in found if match), None)

    @cached_property
    def _as_transcript(self) -> ChatFormat:
        return ChatFormat(self.tokenizer, _eos(self.tokenizer), "transcript")

    @cached_property
    def _as_plain(self) -> ChatFormat:
        return self if self.form == "plain" else ChatFormat(self.tokenizer, _eos(self.tokenizer), "plain")

    @cached_property
    def _markers(self) -> re.Pattern[str]:
        markers = {text for text in _special_tokens(self.tokenizer).values() if text}
        if self.form == "transcript":
            markers |= {HUMAN, ASSISTANT}
        return re.compile("|".join(re.escape(text) for text in sorted(markers, key=len, reverse=True)) or r"(?!)")

    @cached_property
    def _end_text(self) -> str:
        return self.tokenizer.convert_ids_to_tokens(self.end_id)

    @cached_property
    def _bos(self) -> tuple[int, ...]:
        """What stands before the rendered text. A template writes its own BOS; another one would double it."""
        bos = None if self.has_template else self.tokenizer.bos_token_id
        return () if bos is None else (bos,)

    @cached_property
    def _joins(self) -> bool:
        """Whether a text's beginning is tokenised like its middle; some tokenizers put a space before it."""
        joints = (("a", " b"), ("a\n", "b"))
        return all(self._encode(one + other) == self._encode(one) + self._encode(other) for one, other in joints)

    @cached_property
    def _continues_header(self) -> bool:
        header = self._render(_EXAMPLE[:1], True)
        return self._render(_EXAMPLE, False).startswith(header)

    def _check_header(self) -> None:
        if not self._continues_header:
            raise ModelError(
                "the chat template does not continue its own generation header, so the border between prompt "
                "and response is unknown",
                fix="Use a template whose rendered conversation starts with the rendered prompt.",
            )

    def _render(self, turns: Sequence[Turn], generation_header: bool) -> str:
        if self.form == "transcript":
            return render_transcript(turns, generation_header=generation_header)
        if self.form == "plain":
            return _render_plain(turns, generation_header=generation_header)
        return _render_template(self.tokenizer, turns, generation_header=generation_header)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _encode_whole(self, turns: Sequence[Turn], generation_header: bool) -> tuple[int, ...]:
        """The ids of turns as one text; of bare text with what the tokenizer itself puts around it."""
        text = self._render(turns, generation_header)
        return self._encode(text) if self.has_template else tuple(self.tokenizer(text).input_ids)

    def _encode_side(self, prompt: str, parts: Sequence[Stretch], *, complete: bool, ended: bool) -> EncodedSide:
        before = prompt
        ids: list[int] = []
        scored: list[bool] = []
        for part in parts:
            found = self._encode_after(before, part.text)
            ids += found
            scored += [part.scored] * len(found)
            before += part.text
        if complete and not ended:  # a form that prints no end of its own
            ids.append(self.end_id)
            scored.append(True)
        return EncodedSide(tuple(ids), None if all(scored) else tuple(scored), complete)

    def _encode_after(self, before: str, text: str) -> tuple[int, ...]:
        """The ids of a text as it stands behind another one, no token straddling the border."""
        if not self._joins:
            earlier, both = self._encode(before), self._encode(before + text)
            if both[: len(earlier)] == earlier:
                return both[len(earlier) :]
        return self._encode(text)


def chat_format(tokenizer: Any) -> ChatFormat:
    """Return the chat format of a tokenizer, with its end-of-response token found from the template.

    Raises:
        ModelError: The tokenizer has neither a template that ends turns with a special token nor an EOS token, or
            its template is not one that may be run, see `penchant.tokens.template_guard`.
    """
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if has_template:
        check_template(_template_of(tokenizer))
    end_id = _end_of_turn(tokenizer) if has_template else None
    return ChatFormat(
        tokenizer, _eos(tokenizer) if end_id is None else end_id, "template" if has_template else "plain"
    )


def tokenize_pair(
    pair: PreferencePair, chat: ChatFormat, config: DataConfig
) -> tuple[TokenizedPair | None, LedgerEntry]:
    """Return the tokenized pair, or None, and the ledger entry that says what became of the row.

    Cut (see `penchant.tokens.truncate`; the evidence counts the tokens lost): `prompt_cut`, `response_cut`,
    `prompt_and_response_cut`. Dropped: `special_token_in_text`, `template_refuses` (the template raises an error,
    as for a system turn that it has no place for), `template_rewrites_history` (a border cannot be known),
    `identical_tokens`, `identical_after_cut`, `nothing_scored_after_cut`, `prompt_too_long`, `too_long`.

    Args:
        pair: The pair as text.
        chat: The model's chat format.
        config: The form, what is scored, and what to do about length.

    Raises:
        ModelError: No pair can be tokenized: a conversation without a template, a template without a border.
    """
    chat = chat.in_format(config.format)

    def fate(kind: Fate, reason: str = "", evidence: str = "") -> LedgerEntry:
        return LedgerEntry(pair.source, pair.line, pair.id, kind, reason, evidence)

    # bare text has no turns to forge, and what was written for TRL may hold a template's tokens on purpose
    if config.format != "trl_text" and (token := chat.special_token_in(*_texts(pair))):
        return None, fate("dropped", "special_token_in_text", token)

    def encode(prompt: tuple[Turn, ...]) -> EncodedPair:
        return chat.encode_pair(pair, prompt, every_turn=config.loss_turns == "all_assistant")

    try:
        if config.format in TRL_FORMATS:
            fitted = fit_joined(chat.encode_joined(pair), config.max_tokens)
        else:
            fitted = fit(
                encode(pair.prompt),
                pair.prompt,
                encode=encode,
                prompt_tokens=lambda turns: len(chat.prompt_ids(turns)),
                config=config,
            )
    except TemplateRefusalError as error:
        return None, fate("dropped", "template_refuses", error.what)
    except BorderUnknownError as error:
        return None, fate("dropped", "template_rewrites_history", str(error))
    if fitted.pair is None:
        return None, fate("dropped", fitted.reason, fitted.evidence)
    tokenized = _tokenized(pair, fitted.pair)
    return tokenized, fate("cut" if fitted.reason else "kept", fitted.reason, fitted.evidence)


def _tokenized(pair: PreferencePair, encoded: EncodedPair) -> TokenizedPair:
    chosen, rejected = encoded.chosen, encoded.rejected
    return TokenizedPair(
        pair.id,
        encoded.prompt_ids,
        chosen.ids,
        rejected.ids,
        pair.cluster,
        chosen.scored,
        rejected.scored,
        chosen.complete,
        rejected.complete,
        pair.weight,
        _margin(pair),
        pair.confidence,
        pair.desirable,
    )


def _margin(pair: PreferencePair) -> float | None:
    if pair.margin is None and pair.score_chosen is not None and pair.score_rejected is not None:
        return pair.score_chosen - pair.score_rejected
    return pair.margin


def _texts(pair: PreferencePair) -> list[str]:
    """Every text of the pair that comes from the data."""
    turns = (*pair.prompt, *pair.chosen_lead, *pair.rejected_lead)
    calls = [_plain_json(turn.tool_calls) for turn in turns if turn.tool_calls]
    return [*(turn.content for turn in turns), *calls, pair.chosen, pair.rejected]


def _plain_json(text: str) -> str:
    """JSON as a template prints it: what an escape hides here would be shown there."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return text  # the template will refuse it


def _render_template(tokenizer: Any, turns: Sequence[Turn], *, generation_header: bool) -> str:
    """A conversation as the tokenizer's own template prints it, in transformers' sandbox and within limits."""

    def render() -> str:
        messages = [turn.as_message() for turn in turns]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_header)

    try:
        return render_within_limits(render)
    except ModelError:
        raise
    except Exception as error:  # a template is a program: it can fail in every way that Python knows
        raise TemplateRefusalError(f"the chat template refuses this conversation: {_told(error)}") from error


def _told(error: Exception) -> str:
    return str(error)[:_MOST_TOLD] or type(error).__name__


def _render_plain(turns: Sequence[Turn], *, generation_header: bool) -> str:
    """A prompt of one turn, and the response after it."""
    if len(turns) > (1 if generation_header else 2):
        raise ModelError(
            "with no chat template, a conversation of several turns has no form",
            fix="Use an instruction-tuned model, single-turn prompts, or --set data.format=transcript.",
        )
    return "".join(turn.content for turn in turns)


def _special_tokens(tokenizer: Any) -> dict[int, str]:
    """Every control token by its id: those with a name of their own (EOS) and those only marked as special."""
    named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    marked = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**marked, **dict(named)}


def _template_of(tokenizer: Any) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # of several templates none is the default
        raise ModelError(f"the tokenizer has no default chat template ({_told(error)})") from error


def _eos(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no end-of-sequence token, so no response could ever end",
            fix="Set `eos_token` in its tokenizer_config.json.",
        )
    return int(tokenizer.eos_token_id)


def _end_of_turn(tokenizer: Any) -> int | None:
    """The first special token that the template prints after an assistant's words, if there is one."""
    text = _render_template(tokenizer, _EXAMPLE, generation_header=False)
    _, _, suffix = text.rpartition(_EXAMPLE[1].content)
    special = _special_tokens(tokenizer)
    for token in tokenizer(suffix, add_special_tokens=False).input_ids:
        if token in special:
            return token
    return None
