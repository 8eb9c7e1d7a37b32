"""The line that goes on: what was typed, with an option more."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penchant.cli.typed import typed_command

MODULE = "/somewhere/penchant/__main__.py"


def typed(
    *words: str,
    options: tuple[list[str], ...] = (["--resume"],),
    environment: dict[str, str] | None = None,
) -> str:
    interpreter = [".venv/bin/python", "-X", "dev", "-m", "penchant", *words]
    return typed_command(*options, words=[MODULE, *words], interpreter=interpreter, environment=environment or {})


def test_what_a_module_was_started_with_is_kept() -> None:
    assert typed("train", "a") == ".venv/bin/python -X dev -m penchant train a --resume"


def test_an_option_that_is_there_is_not_given_twice() -> None:
    assert typed("train", "--resume", "a") == ".venv/bin/python -X dev -m penchant train --resume a"
    both = (["--out", "runs/demo"], ["--resume"])
    assert typed("demo", options=both).endswith("demo --out runs/demo --resume")
    assert typed("demo", "--out=x", options=both).endswith("demo --out=x --resume")


def test_what_follows_the_end_of_options_stays_behind_it() -> None:
    assert typed("train", "--", "-odd").endswith("train --resume -- -odd")


@pytest.mark.parametrize("word", ["it's", "a b", "$HOME", "`id`", "*", "", "é\n"])
def test_a_shell_reads_the_words_that_were_typed(word: str) -> None:
    line = typed("train", word).replace(".venv/bin/python -X dev -m penchant", "printf '%s|'")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == f"train|{word}|--resume|"


def test_the_command_is_called_by_its_name_where_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "penchant"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)
    words = [str(script), "train"]
    given = {"words": words, "interpreter": [sys.executable, *words], "environment": {}}
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert shutil.which("penchant") is None
    assert typed_command(["--resume"], **given) == f"{shlex.quote(str(script))} train --resume"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert typed_command(["--resume"], **given) == "penchant train --resume"


def test_torchrun_is_asked_for_as_many_processes_again() -> None:
    launched = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "1"}
    assert typed("train", "a", environment=launched) == (
        "torchrun --standalone --nproc_per_node=4 -m penchant train a --resume"
    )
    assert typed("train", "a", environment={**launched, "GROUP_WORLD_SIZE": "2"}).startswith(
        "torchrun ... -m penchant train"
    )
