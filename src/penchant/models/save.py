"""A policy to a directory that plain transformers opens, and its adapters to one that peft opens."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from penchant.data.atomic import disk_errors, flush_folder, hidden_name, move_folder
from penchant.models.load import LoadedModel
from penchant.models.quantized import is_four_bit, merge_into_dequantized


def save_model(loaded: LoadedModel, target: Path, *, card: str) -> None:
    """Write weights (safetensors), config, tokenizer, chat template and card; the folder appears when whole.

    Raises:
        DiskError: There is no room or no permission; nothing is left behind.
    """
    with whole_folder(target) as folder:
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")


def save_and_merge_adapters(adapters: Any, target: Path) -> None:
    """Write adapters (safetensors, as peft opens them), then merge them into the weights of their model.

    A model of 4 bits becomes one of fp32 first.

    Args:
        adapters: From `penchant.models.lora.add_adapters`.
        target: The folder; it appears when whole.

    Raises:
        DiskError: There is no room or no permission; nothing is left behind, and nothing was merged.
    """
    with whole_folder(target) as folder:
        adapters.save_pretrained(folder, save_embedding_layers=False)  # of which none is adapted
    if is_four_bit(adapters.get_base_model()):
        merge_into_dequantized(adapters, target)
    else:
        adapters.merge_and_unload()


@contextlib.contextmanager
def whole_folder(target: Path, *, renamed: Callable[[], Path] | None = None) -> Iterator[Path]:
    """Give a hidden folder to write to; it gets its name, on the disk, when the body is through.

    Args:
        target: Its name; what has it already is replaced.
        renamed: Asked at the end for another name in the same folder.

    Raises:
        DiskError: There is no room or no permission; nothing is left behind.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = hidden_name(target, "tmp")
        folder.mkdir()
        try:
            yield folder
            flush_folder(folder)
            move_folder(folder, target if renamed is None else renamed())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
