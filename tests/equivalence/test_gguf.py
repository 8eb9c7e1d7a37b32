"""A GGUF file, converted, is the model that was written into it."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from tests.tiny import END, PAD, START, tiny_llama, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from penchant.models.bundled import bundled_gguf
from penchant.models.gguf import convert_gguf
from penchant.models.load import load_model, resolve_model

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MERGED = 259  # a token more than the tiny tokenizer has: transformers wants a merge
OTHER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    """The name of a Llama parameter in a GGUF file."""
    stem = name.removesuffix(".weight")
    if stem in OTHER_NAMES:
        return f"{OTHER_NAMES[stem]}.weight"
    _, _, index, rest = stem.split(".", 3)
    return f"blk.{index}.{LAYER_NAMES[rest]}.weight"


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rotary halves side by side, as the format stores query and key."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)


def write_gguf(path: Path, model: LlamaForCausalLM) -> None:
    """Write model and tiny tokenizer as fp32 GGUF."""
    config, tokenizer = model.config, tiny_tokenizer()
    key_value_heads = config.num_key_value_heads
    assert key_value_heads is not None
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens = [*tokenizer.convert_ids_to_tokens(list(range(MERGED))), "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if index < 3 else 1 for index in range(len(tokens))])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(START)
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_unk_token_id(PAD)
    writer.add_chat_template(str(tokenizer.chat_template))
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        if "q_proj" in name:
            weight = interleaved(weight, config.num_attention_heads)
        elif "k_proj" in name:
            weight = interleaved(weight, key_value_heads)
        writer.add_tensor(gguf_name(name), weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("tied", [False, True])
def test_gguf_in_fp32_is_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool) -> None:
    """Through `load_model` and the cache the logits are the source's; a second load converts nothing."""
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    source = tiny_llama(tied=tied, vocab_size=260)
    write_gguf(tmp_path / "tiny.gguf", source)
    found = load_model(str(tmp_path / "tiny.gguf"))
    ids = torch.tensor([[1, 40, 50, 60, 70, 2]])
    with torch.no_grad():
        assert torch.allclose(found.model(ids).logits, source(ids).logits, rtol=1e-5, atol=1e-5)
    for name, parameter in source.named_parameters():
        assert torch.equal(found.model.get_parameter(name), parameter), name
    assert found.stop_ids == (END,)
    assert found.pad_id == PAD
    text = "the sun shines"
    assert found.tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids
    assert found.tokenizer("ab").input_ids == [MERGED]

    def refuse(*_: object) -> None:
        raise AssertionError("converted twice")

    monkeypatch.setattr("penchant.models.load.convert_gguf", refuse)
    assert load_model(str(tmp_path / "tiny.gguf")).path == found.path


def test_another_gguf_of_the_same_name_is_converted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is keyed by content, not by file name."""
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "tiny.gguf"
    write_gguf(file, tiny_llama(seed=1, vocab_size=260))
    first = resolve_model(str(file))
    write_gguf(file, tiny_llama(seed=2, vocab_size=260))
    assert resolve_model(str(file)) != first


@pytest.mark.slow
@pytest.mark.bundled
def test_bundled_model_is_what_transformers_reads(tmp_path: Path) -> None:
    """The converted directory of the bundled file holds the weights and tokens that transformers reads."""
    file = bundled_gguf()
    convert_gguf(file, tmp_path / "converted")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "converted", dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, expected[name]), name
    tokenizers = [
        AutoTokenizer.from_pretrained(tmp_path / "converted"),
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name),
    ]
    text = "Why is the sky blue? <|im_end|>"
    assert tokenizers[0](text).input_ids == tokenizers[1](text).input_ids
