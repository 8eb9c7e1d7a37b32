"""What the backward pass needs, predicted from one layer, and what is free for it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from tests.tiny import tiny_family, tiny_llama
from torch import nn

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Segment
from penchant.models import activation_memory
from penchant.models.activation_memory import (
    available_bytes,
    bytes_kept,
    free_bytes,
    needs_checkpointing,
    predicted_bytes,
    resident_bytes,
)
from penchant.models.attention import packed_attention
from penchant.models.freeze import choose_trainable
from penchant.models.precision import Precision, compute_in
from penchant.models.trunk import run_part, split_decoder

CPU = torch.device("cpu")


def test_what_autograd_keeps_is_counted_once_and_without_parameters() -> None:
    """x * w keeps x and w; x * x keeps x once; a view keeps all that it is a view of."""
    weight, inputs = nn.Parameter(torch.ones(10)), torch.ones(10, requires_grad=True)
    assert bytes_kept(lambda: inputs * weight) == 80
    assert bytes_kept(lambda: inputs * weight, [weight]) == 40
    assert bytes_kept(lambda: inputs * inputs) == 40
    assert bytes_kept(lambda: inputs[:5] * weight[:5], [weight]) == 40
    assert bytes_kept(lambda: inputs + weight) == 0


def test_what_was_counted_is_freed_though_a_node_keeps_its_own_output() -> None:
    inputs = torch.ones(10, requires_grad=True)
    made: list[weakref.ref[torch.Tensor]] = []

    def run() -> torch.Tensor:
        output = inputs.exp()  # its backward pass wants the output itself
        made.append(weakref.ref(output))
        return output * 2

    assert bytes_kept(run) > 0
    gc.collect()
    assert made[0]() is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("last_layers", [None, 2])
@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Phi3", "Olmo2", "Mixtral"])
def test_one_layer_foretells_what_all_keep(name: str, last_layers: int | None, precision: Precision) -> None:
    """Within a twentieth, for rows ten times as long as the probe's."""
    model = tiny_family(name, layers=4)
    frozen = choose_trainable(model, last_layers).frozen_layers
    upper = split_decoder(model, [frozen] if frozen else [])[-1]
    segments = (Segment(0, 200, (60, 60)), Segment(320, 200, (60, 60)))
    hidden = torch.randn(640, 32, requires_grad=True)

    def run() -> torch.Tensor:
        with compute_in(precision, "cpu"):
            attend = packed_attention("sdpa", blocks(segments), 640, "cpu")
            return run_part(upper, hidden, torch.arange(640)[None], attend)

    predicted = predicted_bytes(model, first_layer=frozen, tokens=640, precision=precision, kernel="sdpa")
    assert predicted == pytest.approx(bytes_kept(run, model.parameters()), rel=0.05)


def test_separate_sequences_are_foretold_by_the_models_own_forward() -> None:
    """Rows of a model whose attention cannot be shared."""
    model = tiny_family("Gemma3", layers=4)
    ids = torch.arange(640).view(10, 64) % 250
    whole = bytes_kept(lambda: model.model(input_ids=ids, use_cache=False)[0], model.parameters())  # type: ignore[operator]
    predicted = predicted_bytes(model, first_layer=0, tokens=640, precision="fp32", kernel=None)
    assert predicted == pytest.approx(whole, rel=0.2)


def test_a_model_of_frozen_layers_keeps_nothing() -> None:
    model = tiny_llama(layers=2)
    assert predicted_bytes(model, first_layer=2, tokens=640, precision="fp32", kernel="sdpa") == 0


def test_a_probe_leaves_gradients_and_numbers_alone() -> None:
    model = tiny_llama(layers=1)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with torch.no_grad():  # whoever calls, what a step would keep is measured
        assert predicted_bytes(model, first_layer=0, tokens=64, precision="fp32", kernel="sdpa") > 0
    assert torch.equal(torch.rand(1), expected)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_checkpointing_is_needed_when_there_is_no_room() -> None:
    assert needs_checkpointing(11, 10)
    assert not needs_checkpointing(10, 10)
    assert needs_checkpointing(0, -1)
    assert not needs_checkpointing(10**15, None)


def test_gradients_moments_and_written_weights_are_still_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four numbers of four bytes for each that is trained, and a tenth to spare."""
    model = tiny_llama(layers=2)
    trained = choose_trainable(model, 1).trained
    monkeypatch.setattr(activation_memory, "free_bytes", lambda _: 10_000_000)
    assert available_bytes(model) == 9_000_000 - 16 * trained
    monkeypatch.setattr(activation_memory, "free_bytes", lambda _: None)
    assert available_bytes(model) is None


def system(root: Path, **files: str) -> Path:
    """The files of a system, `__` for a slash; some memory is free."""
    for name, text in {"proc__meminfo": "MemTotal: 9 kB\nMemAvailable:    2048 kB\n", **files}.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_free_memory_is_that_of_the_machine(tmp_path: Path) -> None:
    assert free_bytes(CPU, system(tmp_path)) == 2048 * 1024
    unlimited = {"sys__fs__cgroup__memory.max": "max\n", "sys__fs__cgroup__memory.current": "7\n"}
    assert free_bytes(CPU, system(tmp_path, **unlimited)) == 2048 * 1024


def test_free_memory_is_what_the_control_group_leaves(tmp_path: Path) -> None:
    """Pages of files that are not in use are free."""
    limited = {
        "sys__fs__cgroup__memory.max": "1000000\n",
        "sys__fs__cgroup__memory.current": "700000\n",
        "sys__fs__cgroup__memory.stat": "anon 600000\ninactive_file 50000\nactive_file 50000\n",
    }
    assert free_bytes(CPU, system(tmp_path, **limited)) == 350_000


def test_free_memory_is_what_an_older_control_group_leaves(tmp_path: Path) -> None:
    limited = {
        "sys__fs__cgroup__memory__memory.limit_in_bytes": "1000000\n",
        "sys__fs__cgroup__memory__memory.usage_in_bytes": "700000\n",
    }
    assert free_bytes(CPU, system(tmp_path, **limited)) == 300_000


def test_where_nobody_can_be_asked_nothing_is_known(tmp_path: Path) -> None:
    assert free_bytes(CPU, tmp_path) is None
    assert free_bytes(torch.device("mps")) is None


def test_resident_memory_is_this_process(tmp_path: Path) -> None:
    """The figure of the system's own file; nothing where there is no such file."""
    assert resident_bytes(tmp_path) == 0
    status = tmp_path / "proc" / "self" / "status"
    status.parent.mkdir(parents=True)
    status.write_text("Name:\tpython\nVmRSS:\t  640 kB\nRssAnon:\t 5 kB\n", encoding="ascii")
    assert resident_bytes(tmp_path) == 640 * 1024
