"""A loaded model to a GGUF file, tensor by tensor: never more than one of them a second time in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from penchant.data.atomic import disk_errors, flush
from penchant.models.gguf_export.family import Family, add_sizes, as_float32, family_of, tensors_of
from penchant.models.gguf_export.quantisation import Quantisation, stored, stored_bytes, type_of
from penchant.models.gguf_export.tokenizer import add_tokenizer, pre_tokenizer_name
from penchant.models.load import LoadedModel

_FP32 = np.dtype(np.float32)
_METADATA_BYTES = 32 * 2**20  # of tokens and merges, generously


def check_writable(loaded: LoadedModel) -> Family:
    """Return how the model is laid out in a GGUF file, before any work.

    Raises:
        ModelError: Its family or its tokenizer cannot be written.
    """
    family = family_of(loaded.model.config, where=loaded.path)
    pre_tokenizer_name(loaded.tokenizer, where=loaded.path)
    return family


def gguf_bytes(loaded: LoadedModel, chosen: Quantisation) -> int:
    """Return about how large the file will be, its metadata generously."""
    family = check_writable(loaded)
    tensors = tensors_of(loaded.model, family, where=loaded.path)
    sizes = (
        stored_bytes(tuple(values.shape), type_of(name, tuple(values.shape), chosen))
        for name, _, values in tensors
    )
    return sum(sizes) + _METADATA_BYTES


def count_tensors(loaded: LoadedModel) -> int:
    """Return how many tensors the file will hold."""
    return sum(1 for _ in tensors_of(loaded.model, check_writable(loaded), where=loaded.path))


def write_gguf(
    loaded: LoadedModel,
    file: Path,
    chosen: Quantisation,
    *,
    name: str,
    on_tensor: Callable[[int], None] | None = None,
) -> None:
    """Write weights, sizes, tokenizer and chat template.

    Args:
        loaded: The model, on the CPU in fp32.
        file: The file; it is written in place, so it belongs into a folder that appears when whole.
        chosen: How its matrices are stored.
        name: What the file calls the model.
        on_tensor: Told of each tensor that was written.

    Raises:
        ModelError: See `check_writable`.
        DiskError: There is no room or no permission.
        UsageError: A weight does not fit the number format.
    """
    family = check_writable(loaded)
    embedding: Any = loaded.model.get_input_embeddings()
    with disk_errors(file):
        writer = gguf.GGUFWriter(file, family.architecture)
        writer.add_name(name)
        writer.add_file_type(int(chosen.file_type))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        add_sizes(writer, loaded.model.config, family)
        add_tokenizer(
            writer,
            loaded.tokenizer,
            rows=embedding.weight.shape[0],
            end_id=loaded.chat.end_id,
            template=loaded.tokenizer.get_chat_template() if loaded.chat.has_template else None,
            where=loaded.path,
        )
        try:
            _write_tensors(writer, loaded, family, chosen, on_tensor)
        finally:
            writer.close()
        flush(file)


def _write_tensors(
    writer: gguf.GGUFWriter,
    loaded: LoadedModel,
    family: Family,
    chosen: Quantisation,
    on_tensor: Callable[[int], None] | None,
) -> None:
    """Names and sizes of all first, as the format wants; then the values, one tensor at a time."""
    for stored_name, _, values in tensors_of(loaded.model, family, where=loaded.path):
        shape = tuple(values.shape)
        kind = type_of(stored_name, shape, chosen)
        writer.add_tensor_info(stored_name, shape, _FP32, stored_bytes(shape, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for stored_name, _, values in tensors_of(loaded.model, family, where=loaded.path):
        kind = type_of(stored_name, tuple(values.shape), chosen)
        writer.write_tensor_data(stored(as_float32(values).numpy(), kind))
        if on_tensor:
            on_tensor(1)
