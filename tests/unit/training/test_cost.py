"""Formulas of cost against what really happens: tokens, attention pairs, scored rows, bytes kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tests.tiny import END, pair_model, random_groups, tiny_config, tiny_llama

from penchant.batching.attention_plan import blocks
from penchant.batching.pair_batch import Group, pack_groups, pad_groups
from penchant.models.activation_memory import bytes_kept
from penchant.models.freeze import choose_trainable
from penchant.models.lora import Lora
from penchant.models.sizes import ModelSizes, model_sizes
from penchant.objective.head import PairObjective
from penchant.objective.kept_weights import KeptWeights
from penchant.objective.moving_reference import MovingReference
from penchant.training.cost import (
    OPTIMIZER_STATE,
    Line,
    Load,
    Shape,
    UnitCosts,
    activation_bytes,
    forward_seconds,
    gradient_seconds,
    loading_bytes,
    micro_batch_load,
    other_model_seconds,
    scoring_bytes,
    step_parts,
    trunk_seconds,
)
from penchant.training.optimizer import make_optimizer

# peft asks a model for an attribute that transformers has renamed
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

FREE = UnitCosts(
    layer_forward=0.0,
    layer_step=0.0,
    rest_forward=Line(0, 0),
    rest_step=Line(0, 0),
    head_forward=0.0,
    head_step=0.0,
    update=0.0,
    layer_saved=Line(0, 0),
    rest_saved=Line(0, 0),
    working=Line(0, 0),
    spread=0.0,
)


def shape(last_layers: int | None = 2, layers: int = 5, block_rows: int = 10) -> Shape:
    return Shape(model_sizes(tiny_llama(layers=layers, tied=True).config, last_layers), True, block_rows)


def test_a_packed_load_is_that_of_the_batch() -> None:
    groups = random_groups(5)
    load, batch = micro_batch_load(groups, packed=True), pack_groups(groups)
    looks = sum(
        block.num_keys - block.num_queries + place + 1
        for block in blocks(batch.segments or ())
        for place in range(block.num_queries)
    )
    assert load == Load(batch.num_tokens, looks, len(batch.predict_index))


def test_a_shared_prompt_is_counted_once() -> None:
    groups = [Group((5, 6, 7), ((8, 9, END), (9, END))), Group((5, 6, 7), ((10, END), (11, 12, END)))]
    assert micro_batch_load(groups, packed=True).tokens == pack_groups(groups).num_tokens == 3 + 2 + 1 + 1 + 2


def test_a_padded_load_counts_its_padding() -> None:
    groups = random_groups(3)
    load, batch = micro_batch_load(groups, packed=False), pad_groups(groups, 0)
    rows, width = batch.input_ids.shape
    assert load == Load(rows * width, rows * width * width, len(batch.predict_index))


def test_attention_counts_as_tokens() -> None:
    sizes: ModelSizes = shape().sizes
    load = Load(tokens=10, looks=55, rows=3)
    # 2 operations a weight and token, 4 a look and unit of width
    operations = 2 * sizes.layer * 10 + 4 * sizes.attention_width * 55
    assert load.layer_tokens(sizes) == pytest.approx(operations / (2 * sizes.layer))


@pytest.mark.parametrize(
    ("one", "other", "fixed", "each"),
    [
        ((10, 3.0), (20, 5.0), 1.0, 0.2),
        ((20, 5.0), (10, 3.0), 1.0, 0.2),
        ((10, 1.0), (20, 5.0), 0.0, 0.25),  # the small one came out too cheap
        ((10, 6.0), (20, 5.0), 5.0, 0.0),  # or too dear
        ((20, 5.0), (20, 5.0), 0.0, 0.25),
    ],
)
def test_a_line_through_two_points(
    one: tuple[float, float], other: tuple[float, float], fixed: float, each: float
) -> None:
    line = Line.through(one, other)
    assert (line.fixed, line.each) == pytest.approx((fixed, each))
    assert line.at(20) == pytest.approx(5.0)


def test_seconds_add_up_layer_by_layer() -> None:
    costs = dataclasses.replace(
        FREE,
        layer_forward=1.0,
        layer_step=3.0,
        rest_forward=Line(10, 1),
        rest_step=Line(100, 2),
        head_forward=1000.0,
        head_step=2000.0,
    )
    load, how = Load(tokens=7, looks=0, rows=4), shape(last_layers=2, layers=5)
    assert trunk_seconds(load, how, costs) == 3 * 7
    assert forward_seconds(load, how, costs) == 1 * 7 + 10 + 7 + 4000
    assert gradient_seconds(load, how, costs) == 3 * 7 + 100 + 14 + 8000


def kept(layers: int, groups: list[Group], last_layers: int | None) -> int:
    """Bytes that a real tiny model keeps, the head's own left out."""
    model = tiny_llama(layers=layers, tied=True)
    part = choose_trainable(model, last_layers)
    ready = pair_model(model, trunk_layers=part.frozen_layers)
    batch = ready.collate(groups)
    objective = PairObjective(lambda policy, _: policy.chosen - policy.rejected, torch.ones(len(groups)))
    return bytes_kept(lambda: ready.losses(batch, objective).total, ready.parameters())


@pytest.mark.parametrize("last_layers", [None, 3])
def test_kept_bytes_of_many_layers_follow_from_two(last_layers: int | None) -> None:
    groups = random_groups(4)
    load = micro_batch_load(groups, packed=True)
    two, three = (kept(count, groups, last_layers and count) for count in (2, 3))
    layer = three - two
    assert layer > 4 * load.tokens * 32 * 4  # more than queries, keys, values and output of one token each
    costs = dataclasses.replace(FREE, layer_saved=Line(layer, 0), rest_saved=Line(two - layer, 0))
    how = shape(last_layers, layers=6)
    hidden = 4 * how.sizes.width * load.rows
    assert activation_bytes(load, how, costs) - hidden == kept(6, groups, last_layers)


def test_parts_of_a_step() -> None:
    costs = dataclasses.replace(FREE, working=Line(1000, 2), rest_saved=Line(0, 5))
    how, loads = shape(last_layers=2), [Load(10, 0, 30), Load(20, 0, 4)]
    sizes = how.sizes
    parts = step_parts(loads, how, costs, accumulates=False)
    assert parts == {
        "weights": 4 * (sizes.total - sizes.head),
        "head of its own": 4 * sizes.head,
        "gradients": 4 * sizes.trained,
        "gradients of a micro-batch": 0,
        "AdamW's moments": 8 * sizes.trained,
        "reference that moves": 0,
        "start, to compare answers with": 0,
        "scores": 4 * sizes.vocabulary * 10,  # no more rows than a block has
        "activations": 5 * 10 + 4 * sizes.width * 30,  # fewer tokens, but more scored ones
        "libraries and working memory": 1000 + 2 * 10,
    }
    assert step_parts(loads, how, costs, accumulates=True)["gradients of a micro-batch"] == 4 * sizes.head


def test_a_trained_embedding_has_gradients_of_its_own_micro_batch() -> None:
    how, loads = shape(last_layers=None), [Load(10, 0, 3)]
    found = [
        step_parts(loads, how, FREE, accumulates=more)["gradients of a micro-batch"] for more in (False, True)
    ]
    assert found == [4 * how.sizes.head, 12 * how.sizes.head]


def test_a_model_like_the_policy_takes_as_long_as_the_policy_frozen_or_not() -> None:
    costs = dataclasses.replace(FREE, layer_forward=1.0, rest_forward=Line(10, 1), head_forward=1000.0)
    load, how = Load(tokens=7, looks=3, rows=4), shape(last_layers=2, layers=5)
    whole = trunk_seconds(load, how, costs) + forward_seconds(load, how, costs)
    assert other_model_seconds(load, how.sizes, how, costs) == pytest.approx(whole)


def test_another_model_takes_time_by_its_own_layers_and_its_own_head() -> None:
    costs = dataclasses.replace(FREE, layer_forward=1.0, head_forward=1000.0)
    how = shape(layers=5)
    load = Load(tokens=7, looks=0, rows=4)
    wider = model_sizes(tiny_llama(layers=3, hidden_size=64, intermediate_size=128).config, None)
    layers = 2 * 7 * wider.layer / how.sizes.layer
    assert other_model_seconds(load, wider, how, costs) == pytest.approx(layers + 4000 * 2)


def test_another_model_is_alone_in_memory_while_it_scores() -> None:
    costs = dataclasses.replace(FREE, working=Line(1000, 2))
    other, how = model_sizes(tiny_llama(layers=7).config, None), shape(last_layers=1)
    found = scoring_bytes([Load(10, 0, 30), Load(20, 0, 4)], other, how, costs)
    assert found == 4 * other.total + 4 * other.vocabulary * 10 + 1000 + 2 * 20


def test_a_file_of_another_type_lies_in_memory_beside_its_copy() -> None:
    sizes = model_sizes(tiny_llama(layers=3, tied=True).config, 1)
    assert loading_bytes(dataclasses.replace(sizes, stored_bytes=4)) == 4 * sizes.total
    in_the_file = sizes.total - sizes.head  # the head's copy is not
    assert loading_bytes(dataclasses.replace(sizes, stored_bytes=2)) == 4 * sizes.total + 2 * in_the_file


@pytest.mark.parametrize("name", ["adamw", "rmsprop"])
def test_the_state_of_an_optimizer_is_what_it_keeps(name: str) -> None:
    """Of every trained parameter; its counters of steps, a few bytes a tensor, left out."""
    model = tiny_llama(layers=2)
    config = tiny_config("none", train={"optimizer": name})
    optimizer = make_optimizer(config, pair_model(model))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    parts = step_parts([Load(1, 0, 1)], whole_shape(optimizer=name), FREE, accumulates=False)
    assert parts[OPTIMIZER_STATE[name][0]] == sum(value.nbytes for value in kept)


def whole_shape(**how: Any) -> Shape:
    return Shape(model_sizes(tiny_llama(layers=2).config, None), False, 10, **how)


def test_moments_of_8_bits_are_two_bytes_and_their_scales() -> None:
    parts = step_parts([Load(1, 0, 1)], whole_shape(optimizer="adamw_8bit"), FREE, accumulates=False)
    trained = whole_shape().sizes.trained
    assert parts["AdamW's moments (8 bits)"] == pytest.approx(2 * trained + 2 * 4 * trained / 256)
    assert not {"AdamW's moments", "RMSprop's mean squares"} & parts.keys()


def test_a_reference_that_moves_is_a_copy_of_what_is_trained() -> None:
    model = tiny_llama(layers=3)
    choose_trainable(model, 1)
    moving = MovingReference(pair_model(model, trunk_layers=2), share=0.5, every=1)
    how = Shape(model_sizes(tiny_llama(layers=3).config, 1), True, 10, moving=True)
    copied = sum(tensor.nbytes for tensor in moving.state().values())
    parts = step_parts([Load(1, 0, 1)], how, FREE, accumulates=False)
    assert parts["reference that moves"] == copied > 0
    still = dataclasses.replace(how, moving=False)
    assert how.checkpoint - still.checkpoint == copied
    assert still.checkpoint == 3 * copied  # itself and two moments


def test_the_start_that_answers_are_compared_with_is_one_more_copy() -> None:
    model = tiny_llama(layers=3)
    choose_trainable(model, 1)
    kept = KeptWeights(pair_model(model, trunk_layers=2))
    how = Shape(model_sizes(tiny_llama(layers=3).config, 1), True, 10, watched=True)
    parts = step_parts([Load(1, 0, 1)], how, FREE, accumulates=False)
    assert parts["start, to compare answers with"] == sum(t.nbytes for t in kept.tensors.values()) > 0
    assert how.checkpoint == dataclasses.replace(how, watched=False).checkpoint


def test_weights_in_4_bits_are_those_of_linear_layers_below_the_head() -> None:
    sizes = model_sizes(tiny_llama(layers=2).config, None, Lora(2, 4, 0))
    full, packed = (Shape(sizes, False, 10, four_bit=four_bit).weights for four_bit in (False, True))
    assert full == 4 * sizes.total
    # two in a byte, a byte of scale for 64, and four bytes of scale for 64 x 256
    assert packed == pytest.approx(4 * (sizes.total - sizes.linear) + sizes.linear * (0.5 + 1 / 64 + 4 / 16384))
