"""A GGUF file to a plain transformers directory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from penchant.errors import ModelError

_ALONE = "model.gguf"


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write the dequantized fp32 weights, the tokenizer and the chat template of a GGUF file to `target`.

    Raises:
        ModelError: transformers cannot read the file.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:  # no other file beside it is to have a say
            Path(folder, _ALONE).symlink_to(gguf.resolve())
            model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=_ALONE, dtype=torch.float32, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=_ALONE, trust_remote_code=False)
    except Exception as error:  # a torn file fails in many ways; tokenizers raises Exception itself
        raise ModelError(f"this GGUF file cannot be read ({error})", where=str(gguf)) from error
    # save_pretrained refuses while the model says it is quantized; these weights no longer are
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)
