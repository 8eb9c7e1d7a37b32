"""What `penchant export` prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.gguf_models import save_gguf_model
from typer.testing import CliRunner

from penchant.cli.export_view import export_text, next_lines
from penchant.cli.main import app


def found_of(form: str, **changes: Any) -> dict[str, Any]:
    apart = {"responses": 4, "tokens": 100, "largest": 0.5, "mean": 0.01, "kl": 0.001, "greedy_equal": 97}
    checks = [{"name": "weights", "passed": True, "detail": "3 of 3"}]
    proof = {"opened_by": "a reader", "compared_on": "pairs", "checks": checks, "differences": apart}
    files = {"run-q8_0.gguf": 2_000_000} if form in ("gguf", "ollama") else {"model.safetensors": 10}
    made = {"out": "runs/my run/export/x", "form": form, "files": files, "proof": proof, "notes": [], "push": None}
    return {**made, **changes}


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("hf", "Next     penchant chat 'runs/my run/export/x'"),
        ("gguf", "Next     llama-cli -m 'runs/my run/export/x/run-q8_0.gguf'"),
        ("ollama", "ollama create run-q8_0 -f Modelfile && ollama run run-q8_0"),
    ],
)
def test_the_last_line_opens_it(form: str, line: str) -> None:
    assert line in next_lines(found_of(form))[-1]


def test_what_was_checked_is_shown_and_steers_no_terminal() -> None:
    text = export_text(found_of("gguf", notes=["a \x1b[31mnote"]))
    assert "ok  weights" in text
    assert "greedy tokens equal 97 of 100" in text
    assert "2.0 MB  run-q8_0.gguf" in text
    assert "\x1b" not in text
    also = found_of("gguf")["proof"] | {"opened_by": "llama.cpp"}
    assert "Opened by" not in text.partition("Opened by")[2]
    found = found_of("gguf")
    found["proof"]["also"] = [also]
    assert "\nOpened by llama.cpp on the same texts:\n  ok  weights" in export_text(found)
    push = {"repository": "me/m", "public": False, "files": ["a", "b"], "address": None}
    assert "would be sent to me/m, private: a, b" in next_lines(found_of("hf", push=push))[1]


def test_a_model_folder_is_exported_and_a_typo_explained(tmp_path: Path) -> None:
    model, out = save_gguf_model(tmp_path / "tiny"), tmp_path / "out"
    words = ["export", str(model), "--to", "ollama", "--quant", "q4_1", "--out", str(out), "--pairs", "1", "-q"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["proof"]["passed"] is True
    assert sorted(found["files"]) == ["Modelfile", "README.md", "proof.json", "tiny-q4_1.gguf"]
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    wrong = CliRunner().invoke(app, ["export", str(model), "--to", "gguf", "--quant", "q4_k_m"])
    assert wrong.exit_code == 2
    assert "llama-quantize" in wrong.stderr
