"""A base of 4 bits: the remedy where the package is missing; where it is there, that what is saved was trained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import (
    largest_difference,
    pair_rows,
    plain_token_logps,
    random_groups,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

from penchant.errors import UsageError
from penchant.models.freeze import choose_trainable
from penchant.models.load import load_model
from penchant.models.lora import Lora
from penchant.models.quantized import is_four_bit
from penchant.models.save import save_and_merge_adapters
from penchant.workflow.train import train_run

HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="bitsandbytes is not installed")
GROUPS = random_groups(3, seed=4)


def wide_start(folder: Path) -> Path:
    """Quantization takes blocks of 64 numbers."""
    return save_tiny(folder, tiny_llama(layers=2, hidden_size=64, intermediate_size=128))


def test_a_missing_package_is_an_error_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = wide_start(tmp_path / "start")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(UsageError, match=r"model\.load_in_4bit: .*not installed\n.*pip install bitsandbytes"):
        load_model(str(source), four_bit=True)


def test_a_state_dict_cannot_be_kept_in_4_bits(tmp_path: Path) -> None:
    source = wide_start(tmp_path / "start")
    torch.save(tiny_llama().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"model\.load_in_4bit: a state dict as the start"):
        load_model(str(tmp_path / "w.pth"), architecture=str(source), four_bit=True)


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore")
def test_only_the_decoders_linear_layers_are_quantized(tmp_path: Path) -> None:
    """Head, embedding and norms stay; all parameters are counted as if they were whole."""
    model = load_model(str(wide_start(tmp_path / "start")), four_bit=True).model
    assert is_four_bit(model)
    packed = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.uint8}
    assert packed
    assert all("proj" in name for name in packed)
    whole = tiny_llama(layers=2, hidden_size=64, intermediate_size=128)
    part = choose_trainable(model, None, Lora(4, 8.0, 0))
    assert part.total == sum(parameter.numel() for parameter in whole.parameters())


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", ["lora", "rslora"])
def test_what_is_saved_is_the_quantized_base_plus_the_adapter(tmp_path: Path, variant: Any) -> None:
    """Not rounded to 4 bits again; the products are in bf16 while training and in fp32 afterwards."""
    loaded = load_model(str(wide_start(tmp_path / "start")), four_bit=True)
    adapters = choose_trainable(loaded.model, None, Lora(4, 8.0, 0, variant)).adapters
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    before = plain_token_logps(loaded.model, GROUPS).detach()
    save_and_merge_adapters(adapters, tmp_path / "adapter")
    assert not is_four_bit(loaded.model)
    after = plain_token_logps(loaded.model, GROUPS).detach()
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert largest_difference(after, before) <= 0.02


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_4_bits(tmp_path: Path, precision: str) -> None:
    """It starts at ln 2, learns, and leaves a model that opens without bitsandbytes' format."""
    source = wide_start(tmp_path / "start")
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    config = tiny_config(
        source,
        model={"lora_rank": 4, "load_in_4bit": True, "last_layers": 1},
        train={"max_steps": 3, "learning_rate": 1e-2},
        engine={"precision": precision},
    )
    run = train_run(config, data, tmp_path / "run").run
    losses = [line["loss"] for line in step_metrics(run)]
    assert losses[0] == pytest.approx(0.6931472, abs=1e-5)
    assert losses[-1] < 0.68
    assert not is_four_bit(load_model(str(run / "model")).model)
