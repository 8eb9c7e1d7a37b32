"""The model card (README.md): what a policy was made of, how it was measured, and what nobody looked at.

Every name and text that comes from data, models or files is shown as plain text: as code in the page, and through
a YAML writer in its head, so that nothing of it becomes markup or an entry of its own.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from penchant.config import Config
from penchant.evaluation.run_record import RunRecord
from penchant.models.bundled import BUNDLED_NAME
from penchant.objective.loss_table import LOSSES
from penchant.reporting.card_figures import as_words, evaluation_results, evaluation_table, known_limits
from penchant.reporting.licences import data_licences, model_licence

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BUNDLED_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
_MOST = 200


@dataclass(frozen=True)
class ExportFacts:
    """What a card says about the export it lies in.

    Attributes:
        form: hf, merged, adapter, gguf or ollama.
        quantisation: Number format of a GGUF file.
        file: Its name.
        passed: Whether the proof passed.
        opened_by: Who opened the export for it.
        compared_on: What was compared.
        checks: (name, passed, detail).
        tokens: Of how many tokens the log-probabilities were compared.
        greedy_equal: At how many of them both find the same one most probable.
        notes: What the form could not say, or a reader leaves out.
    """

    form: str
    quantisation: str | None
    file: str | None
    passed: bool
    opened_by: str
    compared_on: str
    checks: tuple[tuple[str, bool, str], ...]
    tokens: int
    greedy_equal: int
    notes: tuple[str, ...] = ()


def model_card(
    record: RunRecord | None, *, name: str, steps: int | None = None, export: ExportFacts | None = None
) -> str:
    """Return a model's README.md: YAML head and Markdown.

    Args:
        record: The run that it is from; what is not in it is said to be unknown. None for a model without a run.
        name: What the model is called.
        steps: After how many steps its weights were taken, if `record` does not say.
        export: The export that the card lies in; None for the `model/` of a run.
    """
    parts = [f"# {code(name)}", _opening(record, export)]
    if export is not None:
        parts += ["## What this export was checked for", _proof(export)]
    if record is not None:
        parts += ["## Data", _data(record)]
        parts += ["## Training", _training(record, steps)]
        parts += ["## Evaluation", evaluation_table(record)]
        parts += ["## Limits", _bullets(known_limits(record))]
    parts += ["## Licence", _licence(record)]
    if record is not None:
        parts += ["## To make it again", _again(record)]
    return f"---\n{_head(record, name, export)}\n---\n\n" + "\n\n".join(parts) + "\n"


def code(text: object) -> str:
    """Return text of others as a code span of one line: printable, without back quotes, at most 200 characters."""
    return f"`{_plain(text) or ' '}`"


def _plain(text: object) -> str:
    kept = (
        char if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else " "
        for char in str(text)[:_MOST]
    )
    return "".join(kept).replace("`", "'").replace("|", "/").strip()


def _head(record: RunRecord | None, name: str, export: ExportFacts | None) -> str:
    tags = ["penchant", "preference-alignment", *(record.config.objective.losses if record is not None else ())]
    if export is not None and export.quantisation is not None:
        tags.append("gguf")
    results: list[EvalResult] = [] if record is None else evaluation_results(record)
    library = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}.get("" if export is None else export.form)
    data = ModelCardData(
        base_model=None if record is None else _base_on_hub(record.config.model.path),
        license=None if record is None else model_licence(record.config.model.path),
        library_name=library or "transformers",
        pipeline_tag="text-generation",
        tags=tags,
        model_name=_plain(name) or "model",
        eval_results=results or None,
    )
    head = yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=False, width=110)
    return head.strip()


def trained_name(config: Config) -> str:
    """Return what a model is called that such a run makes, whatever its folder is called."""
    start = _base_on_hub(config.model.path) or config.model.path
    return "-".join([Path(start).name, *config.objective.losses])


def _base_on_hub(path: str) -> str | None:
    if path == BUNDLED_NAME:
        return _BUNDLED_ON_HUB
    return path if _HUB_NAME.fullmatch(path) and not Path(path).exists() else None


def _opening(record: RunRecord | None, export: ExportFacts | None) -> str:
    form = "" if export is None else f" {_FORMS[export.form]}"
    if export is not None and export.quantisation is not None:
        form += f" Matrices are stored as {export.quantisation}."
    if record is None:
        return f"A language model, exported by Penchant. Nothing is known here of how it was trained.{form}"
    names = " + ".join(record.config.objective.losses)
    start = code(shown_path(record.config.model.path))
    return f"{start}, aligned with preferences ({names}) by Penchant.{form}"


_FORMS = {
    "hf": "Opens with `AutoModelForCausalLM.from_pretrained`.",
    "merged": "Opens with `AutoModelForCausalLM.from_pretrained`; adapters, if there were any, are merged in.",
    "adapter": "LoRA adapters: open them with `peft` on the base that `adapter_config.json` names.",
    "gguf": "One GGUF file for llama.cpp and what is built on it.",
    "ollama": "For Ollama: `ollama create NAME -f Modelfile`, then `ollama run NAME`.",
}


def _proof(export: ExportFacts) -> str:
    verdict = (
        f"Opened by {export.opened_by} and compared with the trained policy on {export.compared_on} "
        f"({export.tokens} tokens of responses)."
        if export.passed
        else "**This export failed its proof: it is not the trained policy. Do not use it.**"
    )
    lines = [verdict, "", "| check | | found |", "|---|---|---|"]
    lines += [
        f"| {name} | {'passed' if ok else '**failed**'} | {as_words(detail)} |"
        for name, ok, detail in export.checks
    ]
    if export.tokens:
        lines += [
            "",
            f"Behind the same text both find the same token most probable at {export.greedy_equal} of "
            f"{export.tokens} places. All figures stand in `proof.json`.",
        ]
    lines += [f"\nNote: {as_words(note)}." for note in export.notes]
    return "\n".join(lines)


def _data(record: RunRecord) -> str:
    facts = record.circumstances
    lines = []
    if place := facts.get("data"):
        lines.append(f"Preference data: {code(shown_path(str(place)))} (folder and file as they were called).")
    if fingerprint := facts.get("data_fingerprint"):
        lines.append(f"Fingerprint: {code(fingerprint)}.")
    if record.rows:
        counts = ", ".join(f"{count} {as_words(fate)}" for fate, count in record.rows.items())
        lines.append(f"Rows: {counts}; the run's `ledger.parquet` names the fate and reason of each.")
    if record.config.data.random_labels:
        lines.append("**Its labels were drawn at random: this is a control, not an aligned model.**")
    return "\n".join(lines) or "Not known."


def shown_path(path: str) -> str:
    """Return the last two parts of an absolute path, which would tell of someone's machine; others as they are."""
    found = Path(path)
    return str(Path(*found.parts[-2:])) if found.is_absolute() else path


def _training(record: RunRecord, steps: int | None) -> str:
    config = record.config
    known = "; ".join(
        f"{name}: {LOSSES[name].equation} ({LOSSES[name].paper})" for name in config.objective.losses
    )
    done = steps or record.training.get("kept_step") or record.training.get("steps")
    lines = [
        f"Objective: {known}.",
        f"{done if done is not None else 'An unknown number of'} steps of {config.train.batch_pairs} pairs, "
        f"learning rate {config.train.learning_rate:g}, seed {config.train.seed}.",
    ]
    versions = record.circumstances.get("versions")
    if isinstance(versions, Mapping):
        lines.append(
            "Versions: " + ", ".join(f"{as_words(key)} {as_words(value)}" for key, value in versions.items()) + "."
        )
    return "\n".join(lines)


def _licence(record: RunRecord | None) -> str:
    start = "the model it started from" if record is None else code(shown_path(record.config.model.path))
    known = None if record is None else model_licence(record.config.model.path)
    if known is None:
        weights = f"The licence of {start} applies to these weights; which one that is could not be found out."
    else:
        weights = f"{start} says that it is under {code(known)}, which applies to these weights too."
    named = {} if record is None else data_licences(str(record.circumstances.get("data") or ""))
    data = "; ".join(f"{as_words(source)}: {as_words(licence)}" for source, licence in named.items())
    data = f"Data: {data}." if data else "The data has a licence of its own, which is not stated here."
    return f"{weights} {data} Read both before you share this."


def _again(record: RunRecord) -> str:
    place = shown_path(str(record.circumstances.get("data") or "DATA"))
    limit = record.circumstances.get("limit")
    verb = "sft" if record.config.objective.losses == ("sft",) else "train"
    words = ["penchant", verb, "config.yaml", "--data", _plain(place), "--out", "RUN"]
    words += ["--limit", str(limit)] if limit else []
    text = yaml.safe_dump(_shared_config(record.config), sort_keys=False, allow_unicode=False, width=110)
    longest = max((len(run) for run in re.findall(r"~+", text)), default=0)
    fence = "~" * max(3, longest + 1)
    return (
        f"{fence}bash\n{shlex.join(words)}\n{fence}\n\n`config.yaml`, as it was resolved:\n\n"
        f"{fence}yaml\n{text}{fence}"
    )


def _shared_config(config: Config) -> dict[str, Any]:
    return {key: _shared(value) for key, value in config.resolved().items()}


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shared(inner) for key, inner in value.items()}
    return shown_path(value) if isinstance(value, str) and value.startswith("/") else value


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
