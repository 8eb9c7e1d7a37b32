"""The wheel alone, outside the checkout, does what the README promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEYS = {
    "preference_accuracy_reference",
    "preference_accuracy_policy",
    "pass_rate_reference",
    "pass_rate_policy",
    "mcnemar_p",
    "degenerate_rate_reference",
    "degenerate_rate_policy",
    "train_pairs",
    "train_seconds",
    "total_seconds",
    "peak_memory_bytes",
}


def finished(command: list[object], cwd: Path) -> str:
    """Run a command to its end, without the checkout on the path of modules; return its standard output."""
    settings = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel installed, and every other library borrowed from this one.

    Path files of a borrowed folder are not followed, so a checkout that is installed here stays out of sight.
    """
    folder = tmp_path_factory.mktemp("wheel")
    finished(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", ROOT], folder
    )
    [wheel] = (folder / "dist").glob("penchant-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    finished([*pip, "--no-deps", "--no-index", wheel], folder)
    [own] = (folder / "venv").glob("lib/python*/site-packages")
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed), encoding="utf-8")
    return python


@pytest.mark.slow
def test_the_wheel_is_what_is_imported(python: Path, tmp_path: Path) -> None:
    program = "import penchant; print(penchant.__file__)"
    found = Path(finished([python, "-c", program], tmp_path).strip())
    assert found.is_relative_to(python.parents[1])


@pytest.mark.slow
@pytest.mark.bundled
def test_the_wheel_runs_the_demo(python: Path, tmp_path: Path) -> None:
    command = [python.parent / "penchant", "demo", "--fast", "--out", tmp_path / "run", "--json"]
    printed = json.loads(finished(command, tmp_path))
    summary = json.loads((tmp_path / "run" / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert printed == summary
    assert summary.keys() >= KEYS
    assert summary["fast"] is True
    for name in KEYS:
        assert isinstance(summary[name], int | float), name
    for name in KEYS:
        if "accuracy" in name or "rate" in name:
            assert 0 <= summary[name] <= 1, name
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
