"""A policy to a directory that plain transformers opens."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from penchant.data.atomic import disk_errors
from penchant.models.load import LoadedModel


def save_model(loaded: LoadedModel, target: Path, *, card: str) -> None:
    """Write weights (safetensors), config, tokenizer, chat template and card; the folder appears when whole.

    Raises:
        DiskError: There is no room or no permission; nothing is left behind.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            loaded.model.save_pretrained(folder)
            loaded.tokenizer.save_pretrained(folder)
            (folder / "README.md").write_text(card, encoding="utf-8")
            os.chmod(folder, 0o755)
            if target.exists():
                shutil.rmtree(target)
            os.replace(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
