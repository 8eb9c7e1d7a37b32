"""Streams that are no UTF-8 terminal: other encodings, pipes whose reader is gone, no colour."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*words: str, shell_after: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f"{sys.executable} -m penchant {' '.join(words)} {shell_after}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        check=False,
        env={**os.environ, "TERM": "dumb", **environment},
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_cannot_be_encoded_ends_no_command(encoding: str) -> None:
    """Help and an error, with their frames."""
    for words, code in ((("--help",), 0), (("trian",), 2)):
        done = run(*words, PYTHONIOENCODING=encoding)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        (done.stdout + done.stderr).decode(encoding)


def test_text_that_cannot_be_encoded_is_written_as_an_escape(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "\u65e5", "chosen": "\u2603", "rejected": "b"}\n', encoding="utf-8")
    done = run("inspect", str(file), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"\\u2603" in done.stdout


def test_a_reader_that_is_gone_is_no_error() -> None:
    done = run("recipes", shell_after="| head -c 1")
    assert (done.returncode, done.stderr) == (0, b"")


def test_no_colour_where_none_is_wanted() -> None:
    done = run("--help", NO_COLOR="1", TERM="xterm", COLUMNS="40")
    assert done.returncode == 0
    assert b"\x1b[3" not in done.stdout
    assert max(len(line) for line in done.stdout.decode().splitlines()) <= 40
