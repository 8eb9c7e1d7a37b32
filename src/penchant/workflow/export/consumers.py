"""An export as those open it for whom it is made: transformers, peft, and transformers' reader of GGUF.

Nothing of Penchant's own loading is between: what is opened here is what everybody else gets.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from penchant.errors import ModelError
from penchant.models.gguf_export.tokenizer import read_tokenizer
from penchant.models.load import load_model
from penchant.models.lora import quiet_peft


@dataclass(frozen=True)
class Opened:
    """An export, opened.

    Attributes:
        by: Who opened it.
        model: In fp32 on the CPU.
        tokenizer: As that reader gives it.
        note: What had to be mended of what the reader gave, "" for nothing.
    """

    by: str
    model: Any
    tokenizer: Any
    note: str = ""


def open_folder(folder: Path) -> Opened:
    """Open a model folder with transformers."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return Opened("transformers", model.eval(), _tokenizer(folder))


def open_adapter(folder: Path) -> Opened:
    """Open adapters with peft on the base that they name, without merging.

    Raises:
        ModelError: The base cannot be had.
    """
    base = str(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"])
    try:
        loaded = load_model(base)
    except ModelError as error:
        raise ModelError(
            f"the adapters cannot be proven without their base ({error.what}: {base})",
            where=str(folder),
            fix="Put the base where they name it, or export --to merged.",
        ) from error
    with quiet_peft():
        model = PeftModel.from_pretrained(loaded.model, str(folder))
    return Opened("peft", model.eval(), _tokenizer(folder))


def open_gguf(file: Path) -> Opened:
    """Open a GGUF file with transformers' reader."""
    with contextlib.redirect_stderr(io.StringIO()):  # its bar of its own, whatever it was told
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
    tokenizer, note = read_tokenizer(file)
    return Opened("transformers' GGUF reader", model.eval(), tokenizer, note)


def _tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
