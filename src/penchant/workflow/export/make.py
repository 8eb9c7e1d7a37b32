"""The files of an export, form by form, into a folder that is not yet there for anybody."""

from __future__ import annotations

import shutil
from pathlib import Path

from penchant.errors import DiskError
from penchant.models.gguf_export.write import count_tensors, gguf_bytes, write_gguf
from penchant.models.load import LoadedModel
from penchant.workflow.export.asked import Form, Policy
from penchant.workflow.export.ollama import modelfile
from penchant.workflow.reporter import Reporter

_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "*.jinja",
    "*.model",
    "merges.txt",
)
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_NOT_OF_A_MODEL = ("proof.json", "training_args.json", "trainer_state.json")
_CONTEXT = 8192  # most that a Modelfile asks for: the memory for it grows with it
_SPARE = 16 * 2**20


def check_room(policy: Policy, loaded: LoadedModel, form: Form, out: Path) -> None:
    """Check that the export has room, before anything is written.

    Raises:
        DiskError: It has not.
        ModelError: It is to be GGUF, and its family or tokenizer cannot be written so.
    """
    if form.quantisation is not None:
        needed = gguf_bytes(loaded, form.quantisation)
    else:
        needed = sum(path.stat().st_size for path in _files(policy, form)) + _SPARE
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DiskError(
            f"{free / 1e9:.1f} GB free, but the export needs {needed / 1e9:.1f} GB",
            where=str(out),
            fix="Free some space, or choose another --out.",
        )


def gguf_name(policy: Policy, form: Form) -> str:
    """Return what the GGUF file of an export is called."""
    assert form.quantisation is not None
    return f"{policy.name}-{form.quantisation.name}.gguf"


def make_files(policy: Policy, loaded: LoadedModel, form: Form, folder: Path, reporter: Reporter) -> list[str]:
    """Write the files of an export but for its card and proof; return what could not be said in this form."""
    if form.quantisation is None:
        for path in _files(policy, form):
            shutil.copyfile(path, folder / path.name)
        return []
    tensors = count_tensors(loaded)
    with reporter.progress("Writing tensors", tensors) as written:
        file = folder / gguf_name(policy, form)
        write_gguf(loaded, file, form.quantisation, name=policy.name, on_tensor=written)
    if form.name != "ollama":
        return []
    context = min(int(loaded.model.config.max_position_embeddings), _CONTEXT)
    text, note = modelfile(loaded, file.name, context=context)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    return [note] if note else []


def _files(policy: Policy, form: Form) -> list[Path]:
    if form.name == "adapter":
        assert policy.adapter is not None
        return [*_matching(policy.adapter, _ADAPTER_FILES), *_matching(policy.folder, _TOKENIZER_FILES)]
    return _matching(policy.folder, _MODEL_FILES)


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if path.name not in _NOT_OF_A_MODEL and not path.name.startswith("."))
