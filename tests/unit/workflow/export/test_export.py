"""Every form is written, opened by its own consumer and found to be the policy; a fault in any is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from tests.gguf_models import gguf_model, save_gguf_model
from tests.tiny import pair_rows, write_rows
from torch import Tensor

from penchant.config import build_config
from penchant.errors import DiskError, ModelError, UsageError
from penchant.models.gguf_export import family as family_module
from penchant.models.load import load_model
from penchant.workflow.export import make as make_module
from penchant.workflow.export.asked import asked_form, find_policy
from penchant.workflow.export.consumers import Opened
from penchant.workflow.export.export import Asked, export
from penchant.workflow.export.passages import choose_passages
from penchant.workflow.export.proof import SAME_BYTES, prove
from penchant.workflow.train import train_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gguf_model(tmp_path_factory.mktemp("models") / "tiny", "Llama", tied=False)


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished LoRA run of two steps on a folder with a test split."""
    place = tmp_path_factory.mktemp("lora")
    model = save_gguf_model(place / "base", "Llama", tied=True)
    (place / "data").mkdir()
    write_rows(place / "data" / "train.jsonl", pair_rows(8))
    write_rows(place / "data" / "test.jsonl", pair_rows(4, seed=1))
    config = build_config(
        {
            "model": {"path": str(model), "lora_rank": 4},
            "train": {"max_steps": 2, "batch_pairs": 4, "learning_rate": 1e-2, "epochs": 1},
            "engine": {"precision": "fp32"},
        }
    )
    train_run(config, place / "data", place / "run")
    return place / "run"


def proof_of(found: dict[str, Any]) -> dict[str, Any]:
    return json.loads((Path(found["out"]) / "proof.json").read_text())


def test_a_lora_run_in_every_form(lora_run: Path, tmp_path: Path) -> None:
    made = {}
    for to in ("hf", "merged", "adapter", "gguf", "ollama"):
        out = tmp_path / to if to != "gguf" else None
        made[to] = export(Asked(lora_run, to, "f32" if to in ("gguf", "ollama") else None, out, pairs=3))
        proof = proof_of(made[to])
        assert proof["passed"], proof["checks"]
        assert proof["compared_on"] == "held-out pairs of the run's data"
        assert proof["differences"]["responses"] == 6
        assert set(proof["files"]) == {*made[to]["files"]} - {"proof.json"}
    assert made["gguf"]["out"] == str(lora_run / "export" / "gguf-f32")
    assert proof_of(made["hf"])["differences"]["largest"] == 0
    assert made["adapter"]["proof"]["opened_by"] == "peft"
    assert (
        0 < proof_of(made["adapter"])["differences"]["largest"] < 1e-3
    )  # base and adapter apart, as peft has them
    assert (tmp_path / "hf" / "model.safetensors").read_bytes() == (
        lora_run / "model" / "model.safetensors"
    ).read_bytes()
    lines = (tmp_path / "ollama" / "Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./run-f32.gguf"
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert any(line.startswith('TEMPLATE """') for line in lines)
    card = ModelCard((tmp_path / "hf" / "README.md").read_text())
    assert card.data.to_dict()["library_name"] == "transformers"
    assert "8 kept" in card.text
    assert "penchant train config.yaml" in card.text


def test_a_model_folder_and_what_is_there_already(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = Asked(folder, "gguf", "q8_0", out, pairs=2)
    first = export(asked)
    assert proof_of(first)["compared_on"] == "held-out pairs of the packaged task"
    with pytest.raises(UsageError, match="something here already"):
        export(asked)
    before = (out / "proof.json").stat().st_ino
    export(Asked(folder, "gguf", "q8_0", out, overwrite=True, pairs=2))
    assert (out / "proof.json").stat().st_ino != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    shutil.rmtree(out)
    (out / "holiday").mkdir(parents=True)
    with pytest.raises(UsageError, match="no export"):
        export(Asked(folder, "gguf", "q8_0", out, overwrite=True))


def unpermuted(values: Tensor, name: str, family: Any) -> Tensor:
    return values


def halves_swapped(values: Tensor, name: str, family: Any) -> Tensor:
    return values.flip(0) if ".k_proj." in name else values


def without_head(
    model: Any, family: Any, *, where: str, real: Callable[..., Any] = family_module.tensors_of
) -> Any:
    return (each for each in real(model, family, where=where) if each[1] != "lm_head.weight")


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("penchant.models.gguf_export.family.laid_out", unpermuted),
        pytest.param("penchant.models.gguf_export.family.laid_out", halves_swapped, marks=pytest.mark.slow),
        pytest.param("penchant.models.gguf_export.write.tensors_of", without_head, marks=pytest.mark.slow),
    ],
)
def test_a_fault_in_the_weights_is_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, fault: Any
) -> None:
    """The folder then has another name, says what differs, and the earlier export stays."""
    good = export(Asked(folder, "gguf", "q4_0", tmp_path / "out", pairs=2))
    monkeypatch.setattr(target, fault)
    with pytest.raises(ModelError, match=r"not the policy.*weights"):
        export(Asked(folder, "gguf", "q4_0", tmp_path / "out", overwrite=True, pairs=2))
    assert proof_of(good)["passed"]
    marked = tmp_path / "out-unproven"
    assert "weights" in (marked / "UNPROVEN.txt").read_text()
    assert json.loads((marked / "proof.json").read_text())["passed"] is False
    assert "failed its proof" in (marked / "README.md").read_text()


def test_a_fault_is_found_by_behaviour_alone(folder: Path) -> None:
    """Tokenizer, template, special tokens and log-probabilities each have a check that fails alone."""
    policy = load_model(str(folder))
    compared = choose_passages(None, policy.chat, pairs=2)

    def failing(tokenizer: Any, model: Any = None) -> list[str]:
        found = prove(policy, Opened("a test", model or policy.model, tokenizer), compared, SAME_BYTES)
        return [check.name for check in found.checks if not check.passed]

    def own(cut: str = "gpt-2") -> Any:
        return gguf_model("Llama", cut=cut).tokenizer

    assert failing(own()) == []
    swapped = own()
    swapped.chat_template = swapped.chat_template.replace("'\n'", "'\n\n'", 1)
    assert failing(swapped) == ["chat template"]
    ended = own()
    ended.eos_token = "<|endoftext|>"
    assert failing(ended) == ["special tokens"]
    assert failing(own("qwen2")) == ["token ids"]
    other = load_model(str(folder)).model
    with torch.no_grad():
        other.get_parameter("model.layers.1.self_attn.q_proj.weight").add_(1e-3)
    assert failing(own(), other) == ["log-probabilities"]
    with torch.no_grad():
        other.get_parameter("model.norm.weight").fill_(float("nan"))
    assert failing(own(), other) == ["log-probabilities"]


def test_what_a_reader_cannot_open_is_marked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = make_module.shutil.copyfile

    def torn(source: Path, target: Path) -> None:
        real(source, target)
        if Path(target).suffix == ".safetensors":
            Path(target).write_bytes(Path(target).read_bytes()[:100])

    monkeypatch.setattr(make_module, "shutil", SimpleNamespace(copyfile=torn, disk_usage=shutil.disk_usage))
    with pytest.raises(ModelError, match="opened"):
        export(Asked(folder, "hf", None, tmp_path / "out"))
    assert (tmp_path / "out-unproven" / "UNPROVEN.txt").is_file()
    assert not (tmp_path / "out").exists()


def test_no_room_is_seen_before_anything_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_module, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=1000)))
    with pytest.raises(DiskError, match="GB free"):
        export(Asked(folder, "gguf", "q8_0", tmp_path / "deep" / "out"))
    assert not (tmp_path / "deep").exists()


def test_what_cannot_be_exported_is_explained(folder: Path, lora_run: Path, tmp_path: Path) -> None:
    for source, to, quant, kind, words in (
        (folder, "ggfu", None, UsageError, 'Did you mean "gguf"'),
        (folder, "hf", "q8_0", UsageError, "keeps the numbers"),
        (folder, "adapter", None, UsageError, "no adapters"),
        (tmp_path / "nowhere", "hf", None, ModelError, "no such folder"),
        (tmp_path, "hf", None, UsageError, "neither a run nor a model"),
        (lora_run.parent, "hf", None, UsageError, "Name one of its stages"),
    ):
        with pytest.raises(kind, match=words):
            export(Asked(source, to, quant))
    with pytest.raises(UsageError, match="policy itself"):
        export(Asked(folder, "hf", out=folder, overwrite=True))
    half = tmp_path / "half"
    shutil.copytree(lora_run, half)
    (half / "eval" / "training.json").unlink()
    with pytest.raises(UsageError, match="not finished"):
        find_policy(half, asked_form("hf", None))
    assert find_policy(lora_run / "model", asked_form("hf", None)).adapter == lora_run.resolve() / "adapter"
