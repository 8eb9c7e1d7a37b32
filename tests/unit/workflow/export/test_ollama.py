"""A chat template in Go's language prints what the policy's own prints; one that does more is not said at all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.gguf_models import gguf_model
from tests.tiny import CHAT_TEMPLATE

from penchant.tokens.chat import chat_format
from penchant.types import Turn
from penchant.workflow.export.ollama import _renderer as renderer
from penchant.workflow.export.ollama import linear_template, modelfile

DEFAULT_SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set c = '<|im_start|>' + m['role'] + '\n\n' + m['content'] + '<|im_end|>' %}"
    "{% if loop.index0 == 0 %}{% set c = bos_token + c %}{% endif %}{{ c }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"
    "{{ '[' + m['role'] + ']' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
TRIMS = CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
LAST_ONLY = CHAT_TEMPLATE.replace("'<|im_end|>'", "('<|im_end|>' if loop.last else '<|endoftext|>')")
UNUSUAL = CHAT_TEMPLATE.replace("'\n'", "'\u2028\x01\u00e9\U0001f999\"'", 1)
HALVES = CHAT_TEMPLATE.replace("'\n'", "'\ud83e'", 1)
GO_PROGRAM = Path(__file__).parents[3] / "go_template" / "main.go"
CONVERSATIONS = (
    [Turn("user", "Hi {{ .System }}")],
    [Turn("system", "Be\nbrief."), Turn("user", "Hi")],
    [Turn("user", "a"), Turn("assistant", "b"), Turn("user", " c ")],
)


def go(text: str, turns: list[Turn]) -> str:
    """What Go's text/template makes of the few actions that are written: no trimming, literals as strings."""
    system = "\n\n".join(turn.content for turn in turns if turn.role == "system")
    literal = r'\{\{ ("(?:[^"\\]|\\.)*") \}\}'

    def read(found: re.Match[str]) -> str:
        assert not re.search(r"\\ud[89a-f]", found[1])  # Go takes no half of a character
        return json.loads(re.sub(r"\\U(\w{8})", lambda number: chr(int(number[1], 16)), found[1]), strict=False)

    def plain(part: str) -> str:
        return re.sub(literal, read, part)

    text = re.sub(r"\{\{ if not \.System \}\}(.*?)\{\{ end \}\}", lambda f: "" if system else f[1], text, count=1)
    head, _, rest = text.partition("{{ range .Messages }}")
    body, _, tail = rest.partition("{{ end }}{{ end }}")
    branches = re.split(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}', body)[1:]
    by_role = dict(zip(branches[::2], branches[1::2], strict=True))
    middle = ""
    for turn in turns:
        before, _, after = by_role.get(turn.role, "").partition("{{ .Content }}")
        middle += plain(before) + turn.content + plain(after)
    return plain(head) + middle + plain(tail)


def policy_with(template: str | None) -> Any:
    policy = gguf_model("Llama")
    policy.tokenizer.chat_template = template
    policy.chat = chat_format(policy.tokenizer)
    return policy


def said_template(policy: Any) -> str:
    text, note = modelfile(policy, "a.gguf", context=2048)
    assert note == ""
    assert text.startswith("FROM ./a.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"\nPARAMETER num_ctx 2048\n' in text
    found = re.search(r'TEMPLATE """(.*)"""\n', text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, DEFAULT_SYSTEM, LLAMA3, NO_SYSTEM, UNUSUAL])
def test_the_template_in_go_prints_the_same(template: str) -> None:
    policy = policy_with(template)
    found = said_template(policy)
    render = renderer(policy)
    for turns in CONVERSATIONS:
        if template == NO_SYSTEM and turns[0].role == "system":
            continue
        assert go(found, turns) == render(turns, True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
def test_go_itself_prints_the_same(tmp_path: Path) -> None:
    program = tmp_path / "render"
    shutil.copy(GO_PROGRAM, tmp_path)
    (tmp_path / "go.mod").write_text("module render\n\ngo 1.18\n")
    subprocess.run(["go", "build", "-o", program, "."], cwd=tmp_path, check=True)
    asked, expected = [], []
    for template in (CHAT_TEMPLATE, DEFAULT_SYSTEM, LLAMA3, NO_SYSTEM, UNUSUAL):
        policy = policy_with(template)
        for turns in CONVERSATIONS:
            if template != NO_SYSTEM or turns[0].role != "system":
                messages = [turn.as_message() for turn in turns]
                asked.append({"template": said_template(policy), "messages": messages})
                expected.append({"text": renderer(policy)(turns, True), "error": ""})
    done = subprocess.run([program], input=json.dumps(asked), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("template", [TRIMS, LAST_ONLY, HALVES])
def test_a_template_that_does_more_is_not_said(template: str) -> None:
    policy = policy_with(template)
    assert linear_template(renderer(policy)) is None
    text, note = modelfile(policy, "a.gguf", context=2048)
    assert "more than print turn by turn" in note
    assert "TEMPLATE" not in text


def test_a_base_model_gets_bare_text() -> None:
    text, note = modelfile(policy_with(None), "a.gguf", context=512)
    assert 'TEMPLATE """{{ .Prompt }}"""' in text
    assert note == ""
