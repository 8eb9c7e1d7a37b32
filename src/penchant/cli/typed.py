"""The command as it was typed: what goes on from where a run was stopped is the same line with an option more."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def typed_command(
    *options: Sequence[str],
    words: Sequence[str] | None = None,
    interpreter: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Return this process's command as a line for a POSIX shell, quoted, in the same folder.

    Args:
        options: Words to add, each an option with its value, unless the line has that option.
        words: `sys.argv`, by default that of this process.
        interpreter: `sys.orig_argv`, by default that of this process.
        environment: `os.environ`, by default that of this process.
    """
    words = sys.argv if words is None else words
    interpreter = sys.orig_argv if interpreter is None else interpreter
    environment = os.environ if environment is None else environment
    given = list(words[1:])
    end = given.index("--") if "--" in given else len(given)  # what follows is no option
    known = {word.partition("=")[0] for word in given[:end]}
    added = [word for option in options if option[0] not in known for word in option]
    program = _launcher(environment) or _program(words, interpreter)
    return shlex.join([*program, *given[:end], *added, *given[end:]])


def _launcher(environment: Mapping[str, str]) -> list[str]:
    """What torchrun was called with, where it started this process; of a launch on several machines, its words."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return []
    if environment.get("GROUP_WORLD_SIZE", "1") != "1":
        return ["torchrun", "...", "-m", "penchant"]
    processes = environment.get("LOCAL_WORLD_SIZE", "1")
    return ["torchrun", "--standalone", f"--nproc_per_node={processes}", "-m", "penchant"]


def _program(words: Sequence[str], interpreter: Sequence[str]) -> list[str]:
    """`penchant`, or `python -m penchant` with what else the interpreter was given."""
    script = Path(words[0])
    if script.suffix != ".py":
        found = shutil.which(script.name)
        return [script.name] if found and Path(found).resolve() == script.resolve() else [str(script)]
    return list(interpreter[: len(interpreter) - len(words) + 1])
