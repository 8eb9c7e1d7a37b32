"""One conversation with a model, word by word: what it has read is kept, so a turn costs its own tokens alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from penchant.errors import DataError
from penchant.generation.answers import as_answer, without_control_tokens
from penchant.generation.generate import Generated, context_tokens
from penchant.generation.sampling import GREEDY, choose_tokens, row_key, uniforms
from penchant.generation.stop_strings import StopStrings, cut_at
from penchant.models.load import LoadedModel
from penchant.tokens.chat import ChatFormat
from penchant.types import Answer, Sampling, Turn

_UNFINISHED_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character are decoded to


class Dialogue:
    """A model that answers one conversation after the other, token by token.

    Args:
        loaded: Model and tokenizer.
        chat: The format in which it is asked.

    Attributes:
        answer: What it said last, as far as it came; None before it has.
    """

    def __init__(self, loaded: LoadedModel, chat: ChatFormat) -> None:
        self.answer: Answer | None = None
        self._loaded, self._chat = loaded, chat
        self._read: list[int] = []  # the tokens whose keys and values are in the cache
        self._cache: DynamicCache | None = None

    def quoted(self, text: str) -> str:
        """Return an answer as it can be shown to the model again."""
        return without_control_tokens(self._chat, text)

    def say(
        self,
        turns: Sequence[Turn],
        *,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        name: str = "",
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """Yield the answer to a conversation piece by piece; joined and stripped it is the text of `answer`.

        Whoever stops before the end finds what has been said in `answer`, not finished.

        Args:
            turns: The conversation; its last turn is the user's.
            max_new_tokens: Longest answer, its end token included.
            sampling: Greedy by default.
            name: What the draws are keyed by.
            stop: Strings that end the answer.

        Raises:
            DataError: The conversation fills the model's context.
            ModelError: It has no form in this format, or holds a control token as text.
        """
        ids = self._chat.prompt_ids(turns)
        room = context_tokens(self._loaded) - len(ids)
        if room < 1:
            raise DataError(
                f"the conversation has {len(ids)} tokens, and the model reads {len(ids) + room} at most",
                fix="Undo the last question, or begin anew.",
            )
        stops = StopStrings(tuple(stop), self._chat.decode)
        made = Generated((), False)
        self.answer = as_answer(self._chat, made)
        shown = ""
        for made in self._tokens(ids, min(max_new_tokens, room), sampling, name, stops):
            self.answer = as_answer(self._chat, made)
            text = sure_text(self._chat.decode(made.ids), stops.strings)
            if len(text) > len(shown) and text.startswith(shown) and not made.stop:
                yield text[len(shown) :]
                shown = text
        text = cut_at(self._chat.decode(made.ids), made.stop)
        if text.startswith(shown) and text != shown:
            yield text[len(shown) :]

    def _tokens(
        self, ids: Sequence[int], limit: int, sampling: Sampling, name: str, stops: StopStrings
    ) -> Iterator[Generated]:
        """Yield the answer so far after every token, at last with whether it is finished."""
        draws = uniforms(sampling.seed, row_key(name, 0), limit).to(self._loaded.model.device)
        answer: list[int] = []
        for step in range(limit):
            [token] = choose_tokens(self._scores([*ids, *answer]), sampling, draws[step : step + 1]).tolist()
            if token in self._loaded.stop_ids:
                yield Generated(tuple(answer), True)
                return
            answer.append(token)
            stop = stops.found(answer)
            yield Generated(tuple(answer), bool(stop), stop)
            if stop:
                return

    @torch.inference_mode()
    def _scores(self, ids: list[int]) -> Tensor:
        """The scores of the next token, shape (1, vocab); only what differs from what was read is read."""
        cache, known = self._cache, self._read
        common = next((at for at, (one, other) in enumerate(zip(ids, known, strict=False)) if one != other), None)
        kept = min(len(ids) - 1, len(known) if common is None else common)
        self._cache, self._read = None, []  # whoever interrupts the pass leaves a cache that is in parts
        if cache is not None and kept < len(known):
            cache = _without_last(cache, len(known) - kept)
        if cache is None:
            cache, kept = DynamicCache(config=self._loaded.model.config), 0
        device = self._loaded.model.device
        scores = self._loaded.model(
            input_ids=torch.tensor([ids[kept:]], device=device),
            position_ids=torch.arange(kept, len(ids), device=device).unsqueeze(0),
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        self._cache, self._read = cache, list(ids)
        return scores


def sure_text(text: str, stops: Sequence[str], unfinished: str = _UNFINISHED_CHARACTER) -> str:
    """Return what of a text will stay: not the bytes of half a character, nor what may begin a stop string.

    Args:
        text: The answer so far.
        stops: Strings that end it.
        unfinished: What bytes that are no whole character yet are shown as.
    """
    text = text.rstrip(unfinished)
    longest = max((len(one) for one in stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(one.startswith(text[-length:]) for one in stops):
            return text[:-length]
    return text


def _without_last(cache: DynamicCache, tokens: int) -> DynamicCache | None:
    """The cache without its last tokens; None where it has dropped what came before (a sliding window)."""
    if any(getattr(layer, "is_sliding", False) for layer in cache.layers):
        return None
    cache.crop(-tokens)
    return cache
