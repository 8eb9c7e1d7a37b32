"""A Modelfile for Ollama: the chat template in Go's template language, or left out where that cannot be faithful.

Ollama does not run the Jinja template of a GGUF file. Without a TEMPLATE of its own it takes the nearest of the
templates that it knows (by edit distance, below 100; `Named` in its template/template.go), and the bare prompt
where none is near. The nearest is often not equal, such as plain ChatML without a default system turn. So what is
written here is found from what the policy's template prints, and checked against it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from penchant.errors import ModelError, PenchantError
from penchant.models.load import LoadedModel
from penchant.tokens.template_guard import render_within_limits
from penchant.types import Role, Turn

Render = Callable[[Sequence[Turn], bool], str]
_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_OPENING: tuple[Role, ...] = ("user", "assistant", "user")
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: neither Go nor UTF-8 has a form for it
_MARKS = ("QqFirstqQ", "QqSecondqQ", "QqThirdqQ", "QqFourthqQ")


@dataclass(frozen=True)
class LinearTemplate:
    """A chat template that prints each turn on its own: something before the text and something behind it.

    Attributes:
        start: Before everything.
        no_system: Between start and the first turn where no turn is the system's (a default system turn).
        before: By role.
        after: By role.
        header: Behind the last turn, where the response begins.
    """

    start: str
    no_system: str
    before: dict[str, str]
    after: dict[str, str]
    header: str

    def render(self, turns: Sequence[Turn]) -> str:
        """Return the text of a conversation, its generation header included."""
        system = any(turn.role == "system" for turn in turns)
        body = "".join(self.before[turn.role] + turn.content + self.after[turn.role] for turn in turns)
        return f"{self.start}{'' if system else self.no_system}{body}{self.header}"

    def go(self) -> str:
        """Return the same in Go's template language, every literal quoted so that no white space is lost."""
        parts = [_literal(self.start)]
        if self.no_system:
            parts.append(f"{{{{ if not .System }}}}{_literal(self.no_system)}{{{{ end }}}}")
        parts.append("{{ range .Messages }}")
        for place, role in enumerate(self.before):
            word = "if" if place == 0 else "else if"
            parts.append(
                f'{{{{ {word} eq .Role "{role}" }}}}'
                f"{_literal(self.before[role])}{{{{ .Content }}}}{_literal(self.after[role])}"
            )
        parts += ["{{ end }}{{ end }}", _literal(self.header)]
        return "".join(parts)


def _literal(text: str) -> str:
    """Text as a Go string in a template: JSON's escapes, but for the halves of characters, which Go refuses."""
    quoted = (
        char if char.isprintable() else f"\\U{ord(char):08x}" for char in json.dumps(text, ensure_ascii=False)
    )
    return f"{{{{ {''.join(quoted)} }}}}" if text else ""


def linear_template(render: Render) -> LinearTemplate | None:
    """Return a chat template as one that prints turn by turn, or None when it does more than that.

    Every conversation of up to four turns that a template accepts is compared, also with white space around the
    texts; what a template does to other texts (such as cutting `<think>` out) is not seen.
    """
    try:
        found = _guess(render)
    except (PenchantError, ValueError):
        return None
    spoken: list[Role] = [role for role in _ROLES if role in found.before]
    for length in (1, 2, 3, 4):
        choices: Iterator[tuple[Role, ...]] = product(spoken, repeat=length)
        for roles in choices:
            if "system" in roles[1:] or any(a == b for a, b in pairwise(roles)):
                continue  # Ollama joins neighbours of one role, and hears one system turn
            if roles[-1] == "assistant":
                continue
            for pad in ("", " \n "):
                turns = [Turn(role, f"{pad}{mark}{pad}") for role, mark in zip(roles, _MARKS, strict=False)]
                try:
                    text = render(turns, True)
                except PenchantError:
                    continue
                if text != found.render(turns):
                    return None
    literals = (found.start, found.no_system, found.header, *found.before.values(), *found.after.values())
    return None if any('"""' in text or _SURROGATE.search(text) for text in literals) else found


def _guess(render: Render) -> LinearTemplate:
    """What stands around each turn, read from a conversation without and one with a system turn."""
    user, answer, again = (Turn(role, mark) for role, mark in zip(_OPENING, _MARKS, strict=False))
    plain = render([user], False)
    header = _behind(render([user], True), plain)
    first, after_user = _around(plain, user.content)
    both = _behind(render([user, answer], False), plain)
    before_answer, after_answer = _around(both, answer.content)
    third = _behind(render([user, answer, again], False), plain + both)
    before_user, after_again = _around(third, again.content)
    if after_again != after_user or not first.endswith(before_user):
        raise ValueError
    opening = first[: len(first) - len(before_user)]
    before, after = (
        {"user": before_user, "assistant": before_answer},
        {"user": after_user, "assistant": after_answer},
    )
    try:
        spoken = Turn("system", _MARKS[3])
        head, rest = _around(render([spoken, user], False), spoken.content)
        after["system"] = rest[: rest.index(before_user + user.content)]
    except (PenchantError, ValueError):
        return LinearTemplate(opening, "", before, after, header)
    shared = _shared_start(opening, head) if opening else ""
    before["system"] = head[len(shared) :]
    return LinearTemplate(shared, opening[len(shared) :], before, after, header)


def _shared_start(opening: str, head: str) -> str:
    """What stands before the system turn as before none: all of the opening, or (of a default turn) nothing."""
    return opening if head.startswith(opening) else ""


def _behind(text: str, start: str) -> str:
    if not text.startswith(start):
        raise ValueError
    return text[len(start) :]


def _around(text: str, inner: str) -> tuple[str, str]:
    before, found, after = text.partition(inner)
    if not found or inner in after:
        raise ValueError
    return before, after


def modelfile(policy: LoadedModel, file_name: str, *, context: int) -> tuple[str, str]:
    """Return the Modelfile of a GGUF file beside it, and "" or what it could not say.

    Args:
        policy: The policy.
        file_name: Of the GGUF file.
        context: Tokens that conversation and answer may have together.
    """
    tokenizer = policy.tokenizer
    found = linear_template(_renderer(policy)) if policy.chat.has_template else None
    stops = [tokenizer.convert_ids_to_tokens(index) for index in policy.stop_ids]
    lines = [f"FROM ./{file_name}", ""]
    note = ""
    if found is not None:
        lines += [f'TEMPLATE """{found.go()}"""', ""]
    elif policy.chat.has_template:
        note = (
            "the chat template does more than print turn by turn, so the Modelfile says none: Ollama takes the "
            "nearest that it knows, or the bare prompt. Check it with: ollama show --modelfile NAME"
        )
        lines += ["# " + note, ""]
    else:
        lines += ['TEMPLATE """{{ .Prompt }}"""', ""]  # a base model: bare text is what it was trained on
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    lines += [f"PARAMETER num_ctx {context}", ""]
    return "\n".join(lines), note


def _renderer(policy: LoadedModel) -> Render:
    def render(turns: Sequence[Turn], header: bool) -> str:
        messages = [turn.as_message() for turn in turns]
        try:
            return render_within_limits(
                lambda: policy.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=header
                )
            )
        except ModelError:
            raise
        except Exception as error:  # a template is a program: it can fail in every way that Python knows
            raise ModelError(f"the chat template refuses this conversation ({type(error).__name__})") from error

    return render
