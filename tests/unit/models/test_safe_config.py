"""A model's configuration files are of whoever made the model: what they ask for is looked at first."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import FAMILIES, save_tiny, tiny_family, tiny_llama

from penchant.errors import ModelError
from penchant.models.adapter import adapter_base
from penchant.models.load import load_model
from penchant.models.safe_config import check_config, check_entries, check_tokenizer_class
from penchant.workflow.inspect import load_chat

TRAP = "open('canary', 'w').write('code of a model was run')\nclass Trap: pass\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model beside code that leaves a file wherever it is run, with `kernels` out of reach."""
    folder = save_tiny(tmp_path / "model", tiny_llama(layers=1))
    (folder / "trap.py").write_text(TRAP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "kernels", None)  # importing it is an error
    return folder


def change(folder: Path, file: str, **entries: Any) -> None:
    path = folder / file
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**values, **entries}), encoding="utf-8")


AUTO = {
    "AutoConfig": "trap.Trap",
    "AutoModelForCausalLM": "trap.Trap",
    "AutoTokenizer": ["trap.Trap", "trap.Trap"],
}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"_attn_implementation_internal": "evil/kernel"}, "_attn_implementation_internal"),
        ({"_attn_implementation": "evil/kernel@main:attention"}, "_attn_implementation"),
        ({"attn_implementation": {"text_config": "evil/kernel"}}, "attn_implementation"),
        ({"_experts_implementation": "evil/experts"}, "_experts_implementation"),
        ({"sub": [{"_attn_implementation_internal": "evil/kernel"}]}, "_attn_implementation_internal"),
        ({"model_type": "trap", "auto_map": AUTO}, "no model of the kind 'trap'"),
        ({"model_type": "lightglue"}, "not a causal language model"),
        ({"model_type": "../../trap"}, "no model of the kind"),
        ({"model_type": 7}, "names no model_type"),
        ({"model_type": None}, "names no model_type"),
        ({"tokenizer_class": "AutoModelForCausalLM"}, "is no tokenizer"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"hidden_size": -8}, "hidden_size"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"hidden_size": 10**6, "num_hidden_layers": 10**4, "intermediate_size": 10**7}, "10\\^13 parameters"),
    ],
)
def test_a_hostile_configuration_is_refused_before_it_is_acted_on(
    folder: Path, entries: dict[str, Any], words: str
) -> None:
    change(folder, "config.json", **entries)
    with pytest.raises(ModelError, match=words):
        load_model(str(folder))
    assert not Path("canary").exists()


def test_code_beside_a_known_architecture_is_passed_over_and_not_named_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many models carry code for older versions. transformers' own is used, and nobody is asked for leave."""
    change(folder, "config.json", auto_map=AUTO)
    change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["trap.Trap", "trap.Trap"]})
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("someone was asked"))
    found = load_model(str(folder))
    found.model.save_pretrained(tmp_path / "saved")
    found.tokenizer.save_pretrained(tmp_path / "saved")
    assert not Path("canary").exists()
    for file in ("config.json", "tokenizer_config.json"):
        assert "trap" not in (tmp_path / "saved" / file).read_text(encoding="utf-8"), file


@pytest.mark.parametrize("name", ["AutoModelForCausalLM", "Trainer", "pipeline", "AutoTokenizer", "RagTokenizer"])
def test_a_tokenizer_class_that_is_none_is_refused(folder: Path, name: str) -> None:
    change(folder, "tokenizer_config.json", tokenizer_class=name)
    for opened in (load_model, load_chat):
        with pytest.raises(ModelError, match="is no tokenizer"):
            opened(str(folder))


@pytest.mark.parametrize(
    "name",
    ["LlamaTokenizer", "LlamaTokenizerFast", "GPT2TokenizerFast", "PreTrainedTokenizerFast", "OwnTokenizer", None],
)
def test_ordinary_tokenizer_classes_pass(name: str | None) -> None:
    check_tokenizer_class(name, where="here")


def test_a_tokenizer_class_that_is_no_name_is_refused() -> None:
    with pytest.raises(ModelError, match="not a name"):
        check_tokenizer_class(["LlamaTokenizer"], where="here")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_that_is_tested_passes(name: str) -> None:
    check_config(tiny_family(name).config.to_dict(), where="here")


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flash_attention_2", None, {"": "sdpa"}])
def test_implementations_of_transformers_pass(implementation: Any) -> None:
    check_entries({"_attn_implementation": implementation}, where="here")


def test_depth_and_size_of_configuration_files_are_limited(folder: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    for text, words in ((f'{{"a": {deep}}}', "config.json"), ('{"a": "' + "x" * 9_000_000 + '"}', "bytes")):
        (folder / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match=words):
            load_model(str(folder))
    nested: Any = 0
    for _ in range(50):
        nested = {"a": nested}
    with pytest.raises(ModelError, match="nested deeper"):
        check_entries(nested, where="here")


@pytest.mark.parametrize("place", ["../other.safetensors", "/etc/passwd", "trap.py", "a/b.safetensors", "..", ""])
def test_an_index_names_only_files_beside_it(folder: Path, place: str) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": place}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match="no safetensors file beside it"):
        load_model(str(folder))


def test_an_adapter_imports_no_module(tmp_path: Path) -> None:
    """peft would import what megatron_core names."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"not read")
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "x",
        "megatron_config": {"a": 1},
        "megatron_core": "os",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="would have a module imported"):
        adapter_base(str(folder))


def test_files_beside_a_gguf_have_no_say(tmp_path: Path) -> None:
    """It is opened alone: the error is that of the file, not of what lies beside it."""
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Trainer"}', encoding="utf-8")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="GGUF file cannot be read") as caught:
        load_model(str(tmp_path / "m.gguf"))
    assert "JSON" not in str(caught.value)
