"""Weights by torch.save: what is read, under which names, and with which words the rest is turned away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import tiny_llama
from torch import Tensor, nn

from penchant.config import build_config
from penchant.errors import ModelError, UsageError
from penchant.models.freeze import is_tied
from penchant.models.load import find_source, load_model
from penchant.models.state_dict import fill_model, read_state_dict


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def renamed(old: str, new: str) -> dict[str, Tensor]:
    return {
        key.replace(old, new, 1) if old else new + key: value for key, value in tiny_llama().state_dict().items()
    }


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("under", [None, "state_dict", "model_state_dict", "model"])
def test_a_mapping_is_found_bare_or_under_the_usual_names(tmp_path: Path, under: str | None) -> None:
    tensors = {"a": torch.arange(3.0)}
    content = tensors if under is None else {"epoch": 3, under: tensors, "optimizer": {"state": {}}}
    found = read_state_dict(saved(tmp_path / "w.pth", content))
    assert found.keys() == {"a"}
    assert torch.equal(found["a"], tensors["a"])


def test_the_format_before_torch_1_6_is_read_too(tmp_path: Path) -> None:
    """It cannot be mapped into memory."""
    file = saved(tmp_path / "w.pt", {"a": torch.ones(2)}, _use_new_zipfile_serialization=False)
    assert torch.equal(read_state_dict(file)["a"], torch.ones(2))


class Trap:
    """What would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("code of a file was run",))


def test_a_file_that_could_run_code_is_refused_unrun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it was meant badly or is only a whole pickled model."""
    with pytest.raises(ModelError, match=r"holds more than tensors .*can run code"):
        read_state_dict(saved(tmp_path / "trap.pth", {"a": torch.ones(1), "b": Trap()}))
    with pytest.raises(ModelError, match=r"(?s)holds more than tensors .*torch\.save\(model\.state_dict\(\)"):
        read_state_dict(saved(tmp_path / "whole.pth", tiny_llama()))
    assert "code of a file was run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 1}, [torch.ones(1)], {"weights": {"a": torch.ones(1)}}, {0: torch.ones(1)}]
)
def test_a_file_without_a_mapping_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ModelError, match="no mapping of names to tensors"):
        read_state_dict(saved(tmp_path / "w.pth", content))


@pytest.mark.parametrize("content", [b"", b"not torch" * 50, b"PK\x03\x04" + b"\x00" * 100])
def test_what_torch_did_not_write_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError):
        read_state_dict(tmp_path / "w.pth")


def test_a_torn_or_missing_file_is_an_error_of_the_model(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", {"a": torch.ones(1000)})
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelError, match="cannot be read"):
        read_state_dict(file)
    with pytest.raises(ModelError, match="no such file"):
        read_state_dict(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("", "module."),
        ("", "_orig_mod."),
        ("", "module._orig_mod."),
        ("", "model."),
        ("model.", ""),
        ("layers.", "layers._orig_mod."),
    ],
)
def test_wrappers_and_the_decoders_prefix_do_not_matter(old: str, new: str) -> None:
    model = tiny_llama(seed=1)
    fill_model(model, renamed(old, new), where="w.pth")
    assert same(model, tiny_llama())


def test_a_tied_head_may_be_missing_and_an_untied_one_may_not() -> None:
    tensors = dict(tiny_llama(tied=True).state_dict())
    del tensors["lm_head.weight"]
    model = tiny_llama(tied=True, seed=1)
    fill_model(model, tensors, where="w.pth")
    assert is_tied(model)
    assert same(model, tiny_llama(tied=True))
    with pytest.raises(ModelError, match=r"1 missing \(lm_head\.weight\)"):
        fill_model(tiny_llama(seed=1), tensors, where="w.pth")


def test_a_head_that_was_trained_apart_is_untied() -> None:
    """As after training the last layers of a tied model."""
    source = tiny_llama()
    model = tiny_llama(tied=True, seed=1)
    fill_model(model, source.state_dict(), where="w.pth")
    assert not is_tied(model)
    assert not model.config.tie_word_embeddings
    assert same(model, source)


def test_half_precision_weights_become_fp32() -> None:
    source, model = tiny_llama().half(), tiny_llama(seed=1)  # type: ignore[call-arg]
    fill_model(model, source.state_dict(), where="w.pth")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert same(model, source.float())


def test_positions_that_older_models_saved_are_passed_over() -> None:
    tensors = {**tiny_llama().state_dict(), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    model = tiny_llama(seed=1)
    fill_model(model, tensors, where="w.pth")
    assert same(model, tiny_llama())


def test_what_does_not_fit_is_listed_and_counted() -> None:
    """Ten names of a kind, and how many there are; nothing is copied."""
    tensors = dict(tiny_llama(layers=2).state_dict())
    tensors["adapter.down"] = torch.ones(1)
    tensors["model.norm.weight"] = torch.ones(7)
    model = tiny_llama(layers=4, seed=1)
    with pytest.raises(ModelError) as caught:
        fill_model(model, tensors, where="w.pth")
    text = str(caught.value)
    assert "w.pth: the weights do not fit a LlamaForCausalLM: 18 missing (model.layers.2.self_attn.q_proj" in text
    assert text.count("model.layers.") == 10
    assert (
        "...); 1 unexpected (adapter.down); 1 of another shape (model.norm.weight (7,) instead of (32,))" in text
    )
    assert "model.architecture" in text
    assert same(model, tiny_llama(layers=4, seed=1))


def test_two_tensors_of_one_name_are_refused() -> None:
    tensors = dict(tiny_llama().state_dict())
    tensors["module.lm_head.weight"] = tensors["lm_head.weight"]
    with pytest.raises(ModelError, match=r"two tensors of the file would be lm_head\.weight"):
        fill_model(tiny_llama(), tensors, where="w.pth")


def test_weights_and_architecture_need_each_other() -> None:
    with pytest.raises(UsageError, match=r"w\.pth is a state dict.*model\.architecture"):
        build_config({"model": {"path": "w.pth"}})
    with pytest.raises(UsageError, match=r"r\.pt is a state dict"):
        build_config({"model": {"reference": "r.pt"}})
    with pytest.raises(UsageError, match=r"model\.architecture is used only where"):
        build_config({"model": {"path": "folder", "architecture": "bundled"}})
    assert build_config({"model": {"path": "w.pt", "architecture": "bundled"}}).model.architecture == "bundled"
    with pytest.raises(ModelError, match="holds weights alone"):
        load_model("w.pth")
    with pytest.raises(UsageError, match="only a state dict"):
        find_source("folder", "bundled")
