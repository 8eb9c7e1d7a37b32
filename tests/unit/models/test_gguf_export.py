"""What is written as GGUF holds the policy's numbers and cuts text as it does, in every family and format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gguf_models import CUTS, FAMILY_CHANGES, gguf_model, merging_tokenizer
from tests.tiny import loaded, tiny_family, tiny_llama
from transformers import PreTrainedTokenizerFast

from penchant.errors import ModelError, UsageError
from penchant.models.gguf_export.family import family_of, laid_out
from penchant.models.gguf_export.quantisation import (
    BLOCK,
    QUANTISATIONS,
    quantisation,
    rounded,
    stored,
    stored_bytes,
    type_of,
)
from penchant.models.gguf_export.tokenizer import pre_tokenizer_name, read_tokenizer
from penchant.models.gguf_export.write import count_tensors, gguf_bytes, write_gguf
from penchant.workflow.export.consumers import open_gguf
from penchant.workflow.export.passages import TRICKY
from penchant.workflow.export.proof import parameters_as_rounded

CASES = [
    (family, tied, quant, cut)
    for number, family in enumerate(FAMILY_CHANGES)
    for tied in (False, True)
    for quant, cut in zip(QUANTISATIONS, [*[*CUTS, *CUTS][number:], *CUTS], strict=False)
]
QUICK = [CASES[0], CASES[11], CASES[23], CASES[39], CASES[52]]


def check_round_trip(folder: Path, family: str, tied: bool, quant: str, cut: str) -> None:
    source = gguf_model(family, tied=tied, cut=cut)
    file = folder / "tiny.gguf"
    write_gguf(source, file, QUANTISATIONS[quant], name="tiny")
    opened = open_gguf(file)
    weights = parameters_as_rounded(source, opened.model, QUANTISATIONS[quant])
    assert weights.passed, weights.detail
    for text in TRICKY:
        assert opened.tokenizer(text).input_ids == source.tokenizer(text).input_ids, text
    ids = torch.tensor([source.tokenizer("<|im_start|>the sun shines often<|im_end|>").input_ids])
    with torch.no_grad():
        mine, theirs = (model(ids).logits.log_softmax(-1) for model in (source.model, opened.model))
    assert float((mine.exp() * (mine - theirs)).sum(-1).mean()) <= QUANTISATIONS[quant].most_kl
    if quant == "f32":
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(("family", "tied", "quant", "cut"), QUICK)
def test_every_family_is_read_back(tmp_path: Path, family: str, tied: bool, quant: str, cut: str) -> None:
    check_round_trip(tmp_path, family, tied, quant, cut)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "tied", "quant", "cut"), [case for case in CASES if case not in QUICK])
def test_every_family_is_read_back_in_every_format(
    tmp_path: Path, family: str, tied: bool, quant: str, cut: str
) -> None:
    check_round_trip(tmp_path, family, tied, quant, cut)


def test_the_file_says_what_other_programs_need(tmp_path: Path) -> None:
    source = gguf_model("Llama", tied=False)
    file = tmp_path / "tiny.gguf"
    told: list[int] = []
    write_gguf(source, file, quantisation("Q8_0"), name="a name", on_tensor=told.append)
    reader = gguf.GGUFReader(file)
    said = {name: field.contents() for name, field in reader.fields.items()}
    assert said["general.architecture"] == "llama"
    assert said["tokenizer.ggml.pre"] == "gpt-2"
    assert said["tokenizer.chat_template"] == source.tokenizer.chat_template
    assert (said["tokenizer.ggml.bos_token_id"], said["tokenizer.ggml.eos_token_id"]) == (1, 2)
    assert said["tokenizer.ggml.eot_token_id"] == source.chat.end_id
    assert said["tokenizer.ggml.add_bos_token"] is False
    kinds = said["tokenizer.ggml.token_type"]
    think = said["tokenizer.ggml.tokens"].index("<think>")
    assert (kinds[2], kinds[think], kinds[think + 1]) == (
        gguf.TokenType.CONTROL,
        gguf.TokenType.USER_DEFINED,
        gguf.TokenType.UNUSED,
    )
    assert len(told) == count_tensors(source) == len(reader.tensors)
    assert 0 <= gguf_bytes(source, quantisation("q8_0")) - file.stat().st_size < 33 * 2**20


def test_rows_move_within_a_head_and_nowhere_else() -> None:
    source = gguf_model("Llama")
    family = family_of(source.model.config, where="tiny")
    rows = torch.arange(32.0)[:, None].expand(32, 3)
    found = laid_out(rows, "model.layers.0.self_attn.q_proj.weight", family)[:, 0].tolist()
    assert found[:8] == [0, 4, 1, 5, 2, 6, 3, 7]  # heads of 8: first half and second half, in pairs
    assert found[8:16] == [8 + place for place in found[:8]]
    assert torch.equal(laid_out(rows, "model.layers.0.self_attn.v_proj.weight", family), rows)
    other = family_of(gguf_model("Qwen2").model.config, where="tiny")
    assert torch.equal(laid_out(rows, "model.layers.0.self_attn.q_proj.weight", other), rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rotary positions"),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "activation"),
    ],
)
def test_what_a_reader_would_leave_out_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        family_of(gguf_model("Llama", **changes).model.config, where="tiny")


def test_other_families_and_sizes_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"family gemma2 is not written.*llama, mistral, qwen2, qwen3"):
        family_of(tiny_family("Gemma2").config, where="tiny")
    with pytest.raises(ModelError, match="sliding window of 256"):
        family_of(tiny_family("Mistral").config, where="tiny")
    with pytest.raises(ModelError, match="heads of 8"):
        family_of(tiny_family("Qwen3").config, where="tiny")


def changed_tokenizer(**changes: Any) -> PreTrainedTokenizerFast:
    import json

    from tokenizers import Tokenizer

    rules = json.loads(merging_tokenizer().backend_tokenizer.to_str())
    model = changes.pop("model", {})
    rules |= changes
    rules["model"] |= model
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(rules)), eos_token="<|im_end|>")


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_is_named_by_its_rules(cut: str) -> None:
    assert pre_tokenizer_name(merging_tokenizer(cut), where="tiny") == cut


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": {"type": "Whitespace"}},
        {
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            }
        },
        {"pre_tokenizer": None},
        {"normalizer": {"type": "Lowercase"}},
        {"model": {"ignore_merges": True}},
        {"model": {"byte_fallback": True}},
    ],
)
def test_a_cut_without_a_name_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="tokenizer"):
        pre_tokenizer_name(changed_tokenizer(**changes), where="tiny")


def test_a_tokenizer_that_merges_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="merges nothing"):
        write_gguf(loaded(tiny_llama(vocab_size=260)), Path("never"), QUANTISATIONS["f32"], name="tiny")


def test_a_wrong_name_for_the_cut_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts tell all cuts apart, so a mutation of the name cannot pass."""
    monkeypatch.setattr("penchant.models.gguf_export.tokenizer.pre_tokenizer_name", lambda *_, **__: "qwen2")
    monkeypatch.setattr("penchant.models.gguf_export.write.pre_tokenizer_name", lambda *_, **__: "qwen2")
    for cut in ("gpt-2", "smollm", "llama-bpe"):
        source = gguf_model("Llama", cut=cut)
        write_gguf(source, tmp_path / f"{cut}.gguf", QUANTISATIONS["q4_0"], name="tiny")
        other, _ = read_tokenizer(tmp_path / f"{cut}.gguf")
        assert any(other(text).input_ids != source.tokenizer(text).input_ids for text in TRICKY), cut


@pytest.mark.parametrize(
    ("name", "words"), [("q4_K_M", "llama-quantize"), ("iq2_xs", "llama-quantize"), ("q8", "q8_0")]
)
def test_a_format_that_cannot_be_had_is_explained(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        quantisation(name)


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(QUANTISATIONS)),
    st.lists(st.floats(-100, 100, width=32), min_size=BLOCK, max_size=BLOCK),
)
def test_rounding_stays_within_a_step(name: str, values: list[float]) -> None:
    """A block is off by at most a step of its scale, and takes the bytes that were announced."""
    block = np.array([values], dtype=np.float32)
    kind = QUANTISATIONS[name].matrices
    span = float(np.abs(block).max())
    steps = {
        "f32": 0,
        "f16": 2**-10,
        "bf16": 2**-8,
        "q8_0": 1 / 127,
        "q5_1": 2 / 31,
        "q5_0": 1 / 16,
        "q4_1": 2 / 15,
        "q4_0": 1 / 8,
    }
    assert np.abs(rounded(block, kind) - block).max() <= steps[name] * span * 1.01 + 1e-6
    assert stored(block, kind).nbytes == stored_bytes((1, BLOCK), kind)


def test_what_stays_in_full_numbers() -> None:
    q4 = QUANTISATIONS["q4_0"]
    assert type_of("blk.0.attn_norm.weight", (64,), q4).name == "F32"
    assert type_of("output.weight", (320, 64), q4).name == "Q8_0"
    assert type_of("blk.0.ffn_up.weight", (64, 48), q4).name == "F16"  # a row is no whole number of blocks
    with pytest.raises(UsageError, match="too large for fp16"):
        stored(
            np.full((1, 32), 1e6, dtype=np.float32), type_of("blk.0.ffn_up.weight", (1, 32), QUANTISATIONS["f16"])
        )
