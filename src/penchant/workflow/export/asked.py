"""What is to be exported, into which form, and to which folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from penchant.errors import ModelError, UsageError, did_you_mean
from penchant.evaluation.run_record import RunRecord
from penchant.models.gguf_export.quantisation import Quantisation, quantisation
from penchant.workflow.export.llama_cpp import check_llama_cpp
from penchant.workflow.run_directory import finished
from penchant.workflow.run_record import read_run

FORMS = ("hf", "merged", "adapter", "gguf", "ollama")
CHECKS = ("llama.cpp",)
_DEFAULT_QUANT = "q8_0"


@dataclass(frozen=True)
class Policy:
    """The policy that is exported.

    Attributes:
        folder: The model as transformers opens it.
        name: What it is called, plain letters only.
        adapter: Its adapters as peft opens them, of a LoRA run.
        record: The run that it is from; None for a model folder of which nothing else is known.
    """

    folder: Path
    name: str
    adapter: Path | None = None
    record: RunRecord | None = None


@dataclass(frozen=True)
class Form:
    """What an export is.

    Attributes:
        name: One of `FORMS`.
        quantisation: Of GGUF and Ollama.
    """

    name: str
    quantisation: Quantisation | None = None

    @property
    def folder_name(self) -> str:
        """What the folder is called by default."""
        return self.name if self.quantisation is None else f"{self.name}-{self.quantisation.name}"


def asked_form(to: str, quant: str | None) -> Form:
    """Return the form that was asked for.

    Raises:
        UsageError: There is no such form or number format, or the form has none.
    """
    if to not in FORMS:
        raise UsageError(f'there is no form "{to[:40]}".{did_you_mean(to, FORMS)}', where="--to")
    if to in ("gguf", "ollama"):
        return Form(to, quantisation(quant or _DEFAULT_QUANT))
    if quant is not None:
        raise UsageError(f"{to} keeps the numbers as they are; remove it", where="--quant")
    return Form(to)


def asked_check(check: str | None, form: Form) -> None:
    """Look whether the further reader that was asked for opens this form, and is installed.

    Raises:
        UsageError: There is no such reader, it opens no such form, or it is not installed.
    """
    if check is None:
        return
    if check not in CHECKS:
        known = did_you_mean(check, CHECKS)
        raise UsageError(f'there is no further reader "{check[:40]}".{known}', where="--check")
    if form.quantisation is None:
        raise UsageError(f"{check} does not open {form.name}; it goes with --to gguf or ollama", where="--check")
    check_llama_cpp()


def find_policy(source: Path, form: Form) -> Policy:
    """Return what is in a run directory, in a stage of `align`, or in a model folder.

    Raises:
        UsageError: There is no policy, the run is not finished, or it has no adapters and they are asked for.
        ModelError: There is no such folder.
    """
    if not source.is_dir():
        raise ModelError(
            "there is no such folder", where=str(source), fix="Name a run directory or a model folder."
        )
    if (source / "config.yaml").is_file():
        policy = _of_run(source)
    elif (source / "config.json").is_file():
        policy = _of_folder(source)
    else:
        raise UsageError("is neither a run nor a model folder", where=str(source), fix=_nearby(source))
    if form.name == "adapter" and policy.adapter is None:
        raise UsageError(
            "this policy has no adapters: all of its weights were trained as they are",
            where=str(source),
            fix="Export --to hf. Adapters come of runs with model.lora_rank.",
        )
    if form.name == "adapter" and policy.record is not None and policy.record.config.model.load_in_4bit:
        raise UsageError(
            "adapters that were trained on a base of 4 bits cannot be proven here on the base that they name",
            where=str(source),
            fix=f"Export --to merged, or take {policy.adapter} as it is.",
        )
    return policy


def default_folder(source: Path, form: Form) -> Path:
    """Return where an export goes unless it is said: into the run, or beside the model folder."""
    if (source / "config.yaml").is_file():
        return source / "export" / form.folder_name
    plain = source.resolve()
    return plain.with_name(f"{plain.name}-{form.folder_name}")


def _of_run(run: Path) -> Policy:
    if not finished(run):
        raise UsageError(
            "this run is not finished", where=str(run), fix="Go on with it (--resume), or name a model folder."
        )
    adapter = run / "adapter"
    found = adapter if (adapter / "adapter_config.json").is_file() else None
    stage = run.resolve()
    name = f"{stage.parent.name}-{stage.name}" if re.match(r"\d+-", stage.name) else stage.name
    return Policy(run / "model", plain_name(name), found, read_run(run))


def _of_folder(folder: Path) -> Policy:
    own = folder.resolve()
    if own.name == "model" and (own.parent / "config.yaml").is_file():  # of a run: it knows more
        return _of_run(own.parent)
    return Policy(folder, plain_name(own.name))


def _nearby(folder: Path) -> str:
    stages = [path for path in sorted(folder.iterdir()) if (path / "config.yaml").is_file()]
    if stages:
        return f"Name one of its stages, such as {stages[-1]}."
    return "A run directory holds config.yaml and model/; a model folder holds config.json."


def plain_name(text: str) -> str:
    """Return a name of letters, digits, dots and dashes, at most 60 of them; "model" when nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "model"
