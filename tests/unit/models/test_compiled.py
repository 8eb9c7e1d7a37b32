"""Rows filled up to whole buckets for compiled layers; compiling itself is in tests/equivalence."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import gradients, largest_difference, tiny_llama
from torch import Tensor

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Segment
from penchant.models.attention import packed_attention
from penchant.models.compiled import BUCKET_ROWS, run_compiled
from penchant.models.trunk import run_part, split_decoder

# torch's own imports, when its compiler is first touched
pytestmark = pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")


@pytest.mark.parametrize("rows", [1, 200, BUCKET_ROWS, BUCKET_ROWS + 1])
@pytest.mark.parametrize("embed", [True, False])
def test_a_row_is_filled_up_and_nobody_notices(rows: int, embed: bool) -> None:
    """Layers see whole buckets; attention, outputs and gradients see the row alone."""
    model = tiny_llama(layers=2)
    part = split_decoder(model, [])[0]
    plain = packed_attention("sdpa", blocks((Segment(0, rows, (0,)),)), rows, "cpu")
    widths: list[int] = []
    asked: list[int] = []
    model.model.layers[0].register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))

    def attend(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        asked.extend(tensor.shape[2] for tensor in (query, key, value))
        return plain(query, key, value, scale)

    torch.manual_seed(2)
    inputs = torch.randint(3, 259, (1, rows)) if embed else torch.randn(rows, 32)
    positions = torch.arange(rows)[None]
    found = run_compiled(part, inputs, positions, attend, embed=embed)
    expected = run_part(part, inputs, positions, attend, embed=embed)
    assert found.shape == (rows, 32)
    assert largest_difference(found.detach(), expected.detach()) <= 1e-6
    assert widths == [-(-rows // BUCKET_ROWS) * BUCKET_ROWS, rows]
    assert set(asked) == {rows}
    slopes = gradients(model, expected.flatten())
    largest = max(float(slope.abs().max()) for slope in slopes.values())
    for name, slope in gradients(model, found.flatten()).items():
        assert float((slope - slopes[name]).abs().max()) <= 1e-5 * largest, name
