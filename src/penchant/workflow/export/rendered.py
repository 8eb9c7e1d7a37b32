"""What a tokenizer makes of the conversations and texts that readers of an export are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penchant.tokens.template_guard import render_within_limits
from penchant.types import Turn
from penchant.workflow.export.passages import CONVERSATIONS


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a text, nothing added; special tokens in it are read as such."""
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def rendered_all(tokenizer: Any) -> list[str | None]:
    """Each conversation with and without its generation header; None where there is no template, or it refuses."""
    return [rendered(tokenizer, turns, header) for turns in CONVERSATIONS for header in (True, False)]


def rendered(tokenizer: Any, turns: Sequence[Turn], header: bool) -> str | None:
    """Return the text of a conversation; None where there is no template, or it refuses."""

    def render() -> str:
        messages = [turn.as_message() for turn in turns]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=header)

    if not tokenizer.chat_template:
        return None
    try:
        return render_within_limits(render)
    except Exception:  # a template may refuse a conversation in any way: both are then to refuse it
        return None
