"""A reward model as a judge: a sequence classifier with one output, read at the end of the conversation.

Its files are looked at as those of every model (`penchant.models.safe_config`): safetensors only, no code of its
own, decoder architectures that transformers knows. Scores are fp32 and do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from penchant.errors import ModelError
from penchant.evaluation.judges.watching import Watch
from penchant.models.load import choose_pad_id, resolve_model
from penchant.models.safe_config import forget_code, read_safe_config, read_safe_tokenizer
from penchant.offline import hub_remedy
from penchant.processes import rank, told_by_all, world_size
from penchant.tokens.chat import ChatFormat, chat_format
from penchant.tokens.template_guard import render_within_limits
from penchant.types import Answer, Prompt, Turn

_BATCH_ROWS = 16


class RewardModel:
    """Scores an answer by what the model says of the whole conversation.

    Several processes share the work.

    Args:
        name: Directory or Hub id.
        device: Where it computes.
        batch_rows: Conversations at a time.
        watch: How the work is followed.

    Raises:
        ModelError: It cannot be read, is no classifier with one output, or has no chat template.
    """

    def __init__(
        self, name: str, *, device: str = "cpu", batch_rows: int = _BATCH_ROWS, watch: Watch | None = None
    ) -> None:
        self.name = f"reward:{name}"
        self._watch, self._batch_rows = watch or Watch(), max(1, batch_rows)
        path = resolve_model(name)
        self._chat = _chat(path)
        self._model = _classifier(path).to(device)
        self._pad_id = choose_pad_id(self._chat.tokenizer, (self._chat.end_id,))
        self._model.config.pad_token_id = self._pad_id  # by it the model finds where a row ends
        self._longest = getattr(self._model.config, "max_position_embeddings", None)

    def score(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[float]:
        """Return the reward of each answer, in the model's own unit.

        NaN for a conversation that is too long for it, that its template refuses, or that holds a control token.
        """
        rows = [self._ids(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        order = sorted((index for index, ids in enumerate(rows) if ids), key=lambda index: len(rows[index]))
        chunks = [order[start : start + self._batch_rows] for start in range(0, len(order), self._batch_rows)]
        mine: dict[int, float] = {}
        with self._watch.progress("Scores of the reward model", len(order)) as done:
            for chunk in chunks[rank() :: world_size()]:
                self._watch.check_stop()
                mine |= zip(chunk, self._rewards([rows[index] for index in chunk]), strict=True)
                done(len(chunk))
        found = {index: reward for told in told_by_all(mine) for index, reward in told.items()}
        return [found.get(index, float("nan")) for index in range(len(rows))]

    def _ids(self, prompt: Prompt, answer: Answer) -> list[int]:
        """The conversation as the model was trained to see it, by its own template; [] when it cannot be shown."""
        turns = (*prompt.turns, Turn("assistant", answer.text))
        if self._chat.special_token_in(*(turn.content for turn in turns)):
            return []
        tokenizer = self._chat.tokenizer
        messages = [turn.as_message() for turn in turns]
        try:
            text = render_within_limits(lambda: tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception:  # a template is a program: it can fail in every way that Python knows
            return []
        ids = list(tokenizer(text, add_special_tokens=False).input_ids)
        too_long = self._longest is not None and len(ids) > self._longest
        return [] if too_long or not ids or ids[-1] == self._pad_id else ids

    @torch.inference_mode()
    def _rewards(self, rows: Sequence[Sequence[int]]) -> list[float]:
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        device = self._model.device
        logits = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return logits[:, 0].float().tolist()


def _chat(path: str) -> ChatFormat:
    try:
        chat = chat_format(read_safe_tokenizer(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"its tokenizer cannot be read ({_first_line(error)})", where=path, fix=_how_to_get_it(path)
        ) from error
    if not chat.has_template:
        raise ModelError(
            "this reward model has no chat template, so it is not known how it is shown a conversation", where=path
        )
    return chat


def _classifier(path: str) -> Any:
    try:
        config = read_safe_config(path)
        _check_classifier(config, path)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"the reward model cannot be read ({_first_line(error)})", where=path, fix=_how_to_get_it(path)
        ) from error
    if missing := sorted(found["missing_keys"]):
        raise ModelError(
            f"it lacks the weights {', '.join(missing)[:200]}, which would be random",
            where=path,
            fix="A reward model is a sequence classifier; a language model alone has no score.",
        )
    forget_code(model.config)
    return model.eval()


def _check_classifier(config: Any, path: str) -> None:
    if config.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise ModelError(f"transformers has no sequence classifier of the kind {config.model_type}", where=path)
    if config.num_labels != 1:
        raise ModelError(
            f"it has {config.num_labels} outputs, and a reward model has one",
            where=path,
            fix="A language model alone is no reward model; one that was trained as such says num_labels = 1.",
        )


def _how_to_get_it(path: str) -> str | None:
    if Path(path).exists():
        return None
    return hub_remedy(
        "Name a model directory, or unset it.", f"Fetch it where there is a network: hf download {path}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
