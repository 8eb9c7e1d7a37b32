"""The one door for models: what passes, and with which words the rest is turned away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.tiny import (
    END,
    PAD,
    SPECIAL,
    START,
    loaded,
    save_tiny,
    tiny_family,
    tiny_llama,
    tiny_tokenizer,
)
from transformers import GemmaConfig, LlavaConfig, T5Config, T5ForConditionalGeneration

from penchant.errors import ModelError
from penchant.models.bundled import verified
from penchant.models.digest import weights_digest
from penchant.models.load import choose_pad_id, load_model, resolve_model
from penchant.models.save import save_model


def test_a_directory_is_loaded_in_fp32_without_dropping_a_bit(tmp_path: Path) -> None:
    """Weights, chat format and stop tokens as saved; ready to generate."""
    source = tiny_llama()
    found = load_model(str(save_tiny(tmp_path / "m", source)))
    for name, parameter in source.named_parameters():
        assert torch.equal(found.model.get_parameter(name), parameter), name
    assert not found.model.training
    assert found.chat.end_id == END
    assert found.stop_ids == (END,)
    assert found.tokenizer is found.chat.tokenizer


def test_weights_stored_in_bf16_are_trained_in_fp32(tmp_path: Path) -> None:
    """And `bf16=True` asks for the other, for generation."""
    folder = save_tiny(tmp_path / "m", tiny_llama().to(torch.bfloat16))  # type: ignore[arg-type]
    assert {p.dtype for p in load_model(str(folder)).model.parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(str(folder), bf16=True).model.parameters()} == {torch.bfloat16}


def test_the_pad_token_never_stops_a_response(tmp_path: Path) -> None:
    """The tokenizer pads with the end-of-turn token; the loaded model does not, anywhere."""
    found = load_model(str(save_tiny(tmp_path / "m")))
    assert found.pad_id == PAD
    assert found.pad_id not in found.stop_ids
    assert found.tokenizer.pad_token_id == PAD
    assert found.model.config.pad_token_id == PAD
    assert found.model.generation_config is not None
    assert found.model.generation_config.pad_token_id == PAD


def test_stop_tokens_of_the_generation_config_count_too(tmp_path: Path) -> None:
    """A model may end with any of several tokens; padding then takes another one."""
    model = tiny_llama()
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [PAD, END]
    found = load_model(str(save_tiny(tmp_path / "m", model)))
    assert found.stop_ids == (PAD, END)
    assert found.pad_id == START


@pytest.mark.parametrize(("stops", "expected"), [((2,), 0), ((0, 2), 1), ((0,), 1)])
def test_choose_pad_id(stops: tuple[int, ...], expected: int) -> None:
    """<|endoftext|> where it is safe, the own pad token where that is, else any special token."""
    assert choose_pad_id(tiny_tokenizer(), stops) == expected


def test_without_a_safe_special_token_an_ordinary_one_pads(tmp_path: Path) -> None:
    """Every special token stops or is EOS. The ordinary one does not become special: its text is still text."""
    assert choose_pad_id(tiny_tokenizer(), (0, 1)) == 3
    assert choose_pad_id(tiny_tokenizer(), (0, 1, 2)) == 3
    model = tiny_llama()
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [0, 1, 2]
    found = load_model(str(save_tiny(tmp_path / "m", model)))
    assert found.pad_id == 3
    assert found.tokenizer.all_special_ids == tiny_tokenizer().all_special_ids


def test_eos_never_pads_even_when_turns_end_otherwise() -> None:
    """Base models pad with EOS; whoever masks padding by its id would mask every end."""
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = SPECIAL[START]
    tokenizer.pad_token = SPECIAL[START]
    assert choose_pad_id(tokenizer, (END,)) == PAD


def test_a_vocabulary_of_ends_leaves_nothing_to_pad_with() -> None:
    with pytest.raises(ModelError, match="none is left for padding"):
        choose_pad_id(tiny_tokenizer(), tuple(range(len(tiny_tokenizer()))))


def test_a_safe_pad_token_is_kept() -> None:
    """Nothing is changed without need."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = SPECIAL[START]
    assert choose_pad_id(tokenizer, (END,)) == START


def test_gemma_2_is_loaded_with_the_attention_that_it_knows(tmp_path: Path) -> None:
    """Its soft-capped scores have no fused kernel; the slow way is taken, and the logits are its own."""
    source = tiny_family("Gemma2")
    found = load_model(str(save_tiny(tmp_path / "m", source)))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.equal(found.model(ids).logits, source(ids).logits)


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    """Before anything is read."""
    folder = save_tiny(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_weights_that_can_run_code_are_refused(tmp_path: Path, name: str) -> None:
    """A pickle is not opened, whatever its ending."""
    folder = save_tiny(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelError, match=rf"pickle format \({name}\)"):
        load_model(str(folder))


def test_a_missing_directory_names_its_nearest_neighbour(tmp_path: Path) -> None:
    """And so does no network call: a path is never taken for a Hub id."""
    save_tiny(tmp_path / "smollm")
    with pytest.raises(ModelError, match=r'no such model directory.*"smollm"'):
        load_model(str(tmp_path / "smolm"))
    with pytest.raises(ModelError, match="no such model directory"):
        resolve_model("./somewhere")
    with pytest.raises(ModelError, match="no such GGUF file"):
        resolve_model(str(tmp_path / "a.gguf"))
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ModelError, match="this file is not a model"):
        resolve_model(str(tmp_path / "a.txt"))


def test_a_hub_id_without_network_says_so() -> None:
    """Nothing in the cache, HF_HUB_OFFLINE=1: the remedy names the setting."""
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        load_model("nobody/no-such-model")


def test_a_run_directory_points_to_the_model_inside(tmp_path: Path) -> None:
    """A likely slip gets the right path as its remedy."""
    save_tiny(tmp_path / "run" / "model")
    with pytest.raises(ModelError) as caught:
        load_model(str(tmp_path / "run"))
    assert str(tmp_path / "run" / "model") in str(caught.value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    """T5 has a language-model head and weights, and still is no decoder."""
    config = T5Config(vocab_size=259, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match="t5 is an encoder-decoder model"):
        load_model(str(tmp_path / "m"))


def only_config(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(text, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"not read")
    return str(folder)


def test_a_vision_model_is_refused(tmp_path: Path) -> None:
    """Judged by its configuration alone; the weights are never opened."""
    text = GemmaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1)
    folder = only_config(tmp_path / "m", LlavaConfig(text_config=text).to_json_string())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="llava is a vision or audio model"):
        load_model(folder)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    """A model that writes no text."""
    with pytest.raises(ModelError, match="vit is not a causal language model"):
        load_model(only_config(tmp_path / "m", '{"model_type": "vit"}'))


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    """They cannot be trained as they are."""
    folder = save_tiny(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="quantized"):
        load_model(str(folder))


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "no-such-kind"}', "[]"])
def test_a_broken_configuration_is_an_error_of_the_model(tmp_path: Path, text: str) -> None:
    """Never a traceback of a library."""
    with pytest.raises(ModelError):
        load_model(only_config(tmp_path / "m", text))


def test_torn_weights_are_an_error_of_the_model(tmp_path: Path) -> None:
    """As a broken download leaves them."""
    folder = save_tiny(tmp_path / "m")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(str(folder))


def test_a_torn_gguf_is_an_error_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves nothing in the cache that looks converted."""
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    for number, content in enumerate((b"", b"GGUF", b"not a model" * 100, b"GGUF\x03\x00\x00\x00" + b"\xff" * 64)):
        file = tmp_path / f"{number}.gguf"
        file.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read"):
            load_model(str(file))
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    """Weights alone cannot read text."""
    tiny_llama().save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        load_model(str(tmp_path / "m"))


def test_the_tokenizer_can_be_had_alone(tmp_path: Path) -> None:
    """The same chat format as with the model."""
    folder = save_tiny(tmp_path / "m")
    assert load_model(str(folder)).chat.end_id == END


def test_a_file_that_is_not_the_bundled_one_is_refused(tmp_path: Path) -> None:
    """By size and hash, with the remedy."""
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="not the bundled model"):
        verified(tmp_path / "other.gguf")


def test_the_digest_names_exact_weights() -> None:
    """Equal for a copy; another for another bit, another dtype, another tie."""
    assert weights_digest(tiny_llama()) == weights_digest(tiny_llama())
    changed = tiny_llama()
    with torch.no_grad():
        changed.model.norm.weight[3] += 1e-7
    digests = {weights_digest(m) for m in (tiny_llama(), changed, tiny_llama().to(torch.bfloat16))}  # type: ignore[arg-type]
    assert len(digests) == 3


def test_saving_replaces_what_was_there_as_a_whole(tmp_path: Path) -> None:
    """No file of an earlier model survives beside the new one, and no temporary folder is left."""
    target = tmp_path / "model"
    target.mkdir()
    (target / "model-00001-of-00002.safetensors").write_bytes(b"old")
    save_model(loaded(tiny_llama()), target, card="# Card\n")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (target / "model-00001-of-00002.safetensors").exists()
    assert (target / "README.md").read_text(encoding="utf-8") == "# Card\n"
    assert load_model(str(target)).chat.has_template
