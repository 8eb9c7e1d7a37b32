"""Packages and their versions, held against the floors of Penchant's own package metadata: one list of them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.version import Version

from penchant.workflow.doctor.finding import Finding

_GROUP = "versions"
_OPTIONAL = {
    "bitsandbytes": "frozen weights in 4 bits (model.load_in_4bit); CUDA only",
    "lm_eval": "tasks of lm-evaluation-harness (penchant eval --lm-eval)",
    "trackio": "runs in a tracker of your own",
    "trl": "the comparison that `make bench` does",
    "xllamacpp": "llama.cpp as a further proof of GGUF (penchant export --check llama.cpp)",
}


def versions() -> Iterator[Finding]:
    """Yield Python, the system, and a finding for each package that Penchant needs."""
    yield Finding(
        _GROUP, "Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    try:
        requirements = importlib.metadata.requires("penchant") or []
    except importlib.metadata.PackageNotFoundError:
        remedy = "pip install -e . in a clone of Penchant, or `make env`"
        yield Finding(_GROUP, "penchant", "error", "not installed as a package", remedy)
        return
    names = {Requirement(line).name for line in requirements}
    yield from version_findings(requirements, {name: version for name in names if (version := _version(name))})


def version_findings(requirements: Sequence[str], installed: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each requirement of a package.

    Args:
        requirements: As package metadata lists them; those of extras are passed over.
        installed: Version by name of what is there.
    """
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, wanted = requirement.name, str(requirement.specifier)
        found = installed.get(name)
        remedy = f"pip install '{name}{wanted}', or `make env` in a clone of Penchant"
        if found is None:
            yield Finding(_GROUP, name, "error", f"not installed; {wanted} is needed", remedy)
        elif requirement.specifier.contains(found, prereleases=True):
            yield Finding(_GROUP, name, "ok", found)
        elif any(
            Version(found) < Version(each.version) for each in requirement.specifier if each.operator == ">="
        ):
            yield Finding(_GROUP, name, "error", f"{found} is too old; {wanted} is needed", remedy)
        else:
            yield Finding(_GROUP, name, "warning", f"{found} is newer than what is tested ({wanted})", remedy)


def optional() -> Iterator[Finding]:
    """Yield what else can be installed, and what is better not."""
    for name, purpose in _OPTIONAL.items():
        version = _version(name)
        yield Finding("optional", name, "ok", f"{version or 'not installed'}: {purpose}")
    if importlib.util.find_spec("kernels") is not None:
        what = "installed: transformers can fetch compiled code with it; Penchant never asks it to"
        yield Finding("optional", "kernels", "warning", what, "pip uninstall kernels")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
