"""The notebook: every cell runs, in a kernel, and what is committed are the outputs of a run without an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from tests.gguf_models import ROWS, merging_tokenizer
from tests.notebook_kernel import execute
from tests.tiny import tiny_llama
from tests.warm import ROOT, Warm

FILE = ROOT / "notebooks" / "penchant.ipynb"
MOST_BYTES = 400_000


def book() -> Any:
    return nbformat.read(FILE, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> str:
    """All text that a cell's outputs hold, in every form."""
    return "".join(
        "".join([output.get("text", ""), *map(str, output.get("data", {}).values())]) for output in cell.outputs
    )


def kinds(cell: Any) -> list[str]:
    """What kinds of output a cell has, without the bars that libraries drew which were imported before it."""
    return [output.output_type for output in cell.outputs if output.get("name") != "stderr"]


def test_every_cell_runs(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    tiny_llama(layers=6, vocab_size=ROWS, max_position_embeddings=1024).save_pretrained(model)
    merging_tokenizer("smollm").save_pretrained(model)
    monkeypatch.setenv("PENCHANT_NOTEBOOK_MODEL", str(model))
    monkeypatch.setenv("PENCHANT_NOTEBOOK_STEPS", "2")
    notebook = book()
    execute(notebook, warm, tmp_path)
    run = tmp_path / "runs" / "notebook-1"
    assert (run / "report.html").is_file()
    assert list((run / "export" / "gguf-q8_0").glob("*.gguf"))
    for cell, committed in zip(code(notebook), code(book()), strict=True):
        assert kinds(cell) == kinds(committed), cell.source


def test_the_committed_outputs_are_those_of_a_whole_run() -> None:
    notebook = book()
    nbformat.validate(notebook)
    assert FILE.stat().st_size < MOST_BYTES
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 4
    assert {kind for cell in cells for kind in kinds(cell)} == {"stream", "execute_result"}
    text = "\n".join(map(shown, cells))
    assert "tensor(0.6931)" in text
    assert "24 steps" in text
    assert text.count("data:image/svg+xml") == 3
    assert "ok log-probabilities" in text


def test_nothing_of_the_machine_that_it_ran_on_is_in_it() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.<])/(?:home|root|tmp|Users|work|var|opt|usr)/", text)
    assert "site-packages" not in text
    assert not any(output.get("name") == "stderr" for cell in code(book()) for output in cell.outputs)
