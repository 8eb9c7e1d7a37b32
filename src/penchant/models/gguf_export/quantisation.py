"""The number formats of a GGUF file that can be written here: what each tensor is stored as, and what that costs.

The `gguf` package writes these in Python. The K-quants (Q4_K_M and its kind) it can only read; llama.cpp's own
llama-quantize makes them of a file of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import numpy as np
from gguf.quants import dequantize, quant_shape_to_byte_shape, quantize
from numpy.typing import NDArray

from penchant.errors import UsageError, did_you_mean

_Type = gguf.GGMLQuantizationType
BLOCK = 32  # weights that share a scale; a row must be whole blocks


@dataclass(frozen=True)
class Quantisation:
    """A number format for a model's matrices; norms and biases stay fp32.

    Attributes:
        name: As the command line has it.
        matrices: Of the layers.
        ends: Of embedding and head, on which the output depends most: never less than 8 bits.
        file_type: llama.cpp's number for such a file.
        most_kl: Largest mean KL divergence (nats a token) from the policy that still passes as the price of
            rounding: twice or more what the demo's small model pays (docs/export.md). Whether the file holds the
            right numbers is checked exactly and apart from this.
    """

    name: str
    matrices: gguf.GGMLQuantizationType
    ends: gguf.GGMLQuantizationType
    file_type: gguf.LlamaFileType
    most_kl: float


_FILE = gguf.LlamaFileType
QUANTISATIONS = {
    each.name: each
    for each in (
        Quantisation("f32", _Type.F32, _Type.F32, _FILE.ALL_F32, 1e-6),
        Quantisation("f16", _Type.F16, _Type.F16, _FILE.MOSTLY_F16, 1e-3),
        Quantisation("bf16", _Type.BF16, _Type.BF16, _FILE.MOSTLY_BF16, 1e-2),
        Quantisation("q8_0", _Type.Q8_0, _Type.Q8_0, _FILE.MOSTLY_Q8_0, 0.05),
        Quantisation("q5_1", _Type.Q5_1, _Type.Q8_0, _FILE.MOSTLY_Q5_1, 0.5),
        Quantisation("q5_0", _Type.Q5_0, _Type.Q8_0, _FILE.MOSTLY_Q5_0, 0.5),
        Quantisation("q4_1", _Type.Q4_1, _Type.Q8_0, _FILE.MOSTLY_Q4_1, 1.0),
        Quantisation("q4_0", _Type.Q4_0, _Type.Q8_0, _FILE.MOSTLY_Q4_0, 1.0),
    )
}


def quantisation(name: str) -> Quantisation:
    """Return a number format by name, upper or lower case.

    Raises:
        UsageError: There is none of that name, or it cannot be written in Python.
    """
    plain = name.lower()
    if plain in QUANTISATIONS:
        return QUANTISATIONS[plain]
    if "_k" in plain or plain.startswith(("iq", "tq")):
        raise UsageError(
            f"{name[:40]} cannot be written here: the gguf package reads it, but has no code that makes it",
            where="--quant",
            fix="Export with --quant f16, then: llama-quantize THAT.gguf OUT.gguf Q4_K_M (llama.cpp's own tool).",
        )
    raise UsageError(f'there is no "{name[:40]}".{did_you_mean(plain, QUANTISATIONS)}', where="--quant")


def type_of(name: str, shape: tuple[int, ...], chosen: Quantisation) -> gguf.GGMLQuantizationType:
    """Return what a tensor of the file is stored as.

    Args:
        name: Its name in the file.
        shape: Its shape as transformers has it; blocks run along the last dimension.
        chosen: The file's number format.
    """
    if len(shape) < 2:
        return _Type.F32
    wanted = chosen.ends if name in ("token_embd.weight", "output.weight") else chosen.matrices
    blocks = wanted not in (_Type.F32, _Type.F16, _Type.BF16)
    return _Type.F16 if blocks and shape[-1] % BLOCK else wanted


def stored_bytes(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> int:
    """Return how many bytes a tensor of this shape takes."""
    return int(np.prod(quant_shape_to_byte_shape(shape, kind)))


def stored(values: NDArray[np.float32], kind: gguf.GGMLQuantizationType) -> NDArray[np.generic]:
    """Return fp32 values as the file holds them.

    Raises:
        UsageError: A value does not fit (fp16 ends at 65504).
    """
    with np.errstate(over="ignore"):
        found = quantize(values, kind)
    if kind == _Type.F16 and not np.isfinite(found).all():
        raise UsageError("a weight is too large for fp16", where="--quant", fix="Choose --quant bf16 or f32.")
    return found


def rounded(values: NDArray[np.float32], kind: gguf.GGMLQuantizationType) -> NDArray[np.float32]:
    """Return what a reader of the file gets for these values."""
    return dequantize(stored(values, kind), kind)
