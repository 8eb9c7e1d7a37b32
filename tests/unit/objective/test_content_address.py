"""Names: what a result depends on is in its name, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.tiny import pair_model, random_pairs, tiny_llama

import penchant.objective.content_address as module
from penchant.models.digest import weights_digest
from penchant.models.freeze import choose_trainable, decoder, head
from penchant.objective.content_address import pair_keys, reference_facts, store_name, trunk_facts
from penchant.objective.pair_model import PairModel
from penchant.types import TokenizedPair

PAIRS = random_pairs(4, seed=5)


def reference_name(model: PairModel) -> str:
    return store_name(reference_facts(model, weights_digest(model.model)))


def trunk_name(model: PairModel) -> str:
    return store_name(trunk_facts(model))


def test_a_key_is_the_content_of_the_pair() -> None:
    """Names and groups of pairs are not in it; the border between prompt and response, and the mask, are."""
    pair = TokenizedPair("a", (3, 4), (5, 6), (5, 7))
    others = [
        replace(pair, prompt_ids=(3,), chosen_ids=(4, 5, 6), rejected_ids=(4, 5, 7)),
        replace(pair, chosen_ids=(5, 8)),
        replace(pair, chosen_scored=(True, False)),
        pair.swapped(),
    ]
    same = replace(pair, id="b", cluster="c", rejected_complete=False)
    keys = pair_keys([pair, same, *others], [[0], [1], [2], [3], [4], [5]], "fp32")
    assert keys[0] == keys[1]
    assert len(set(keys.values())) == 5
    assert all(len(key) == module.KEY_BYTES for key in keys.values())


def test_in_bf16_a_key_covers_the_company_and_the_place() -> None:
    """In fp32 it does not; pairs in no chunk have none."""
    ways = [[[0, 1], [2]], [[1, 0], [2]], [[0, 1, 2]], [[0, 3], [2]]]
    keys = {precision: [pair_keys(PAIRS, way, precision) for way in ways] for precision in ("fp32", "bf16")}
    assert len({found[0] for found in keys["bf16"]}) == 4
    assert len({found[0] for found in keys["fp32"]}) == 1
    assert keys["bf16"][0][2] == keys["bf16"][1][2] == keys["bf16"][3][2] != keys["bf16"][2][2]
    assert set(keys["bf16"][0]) == {0, 1, 2}


def test_every_way_of_computing_has_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layout, precision, version of the engine, and what the configuration says beside the weights."""
    model = tiny_llama()
    names = {reference_name(pair_model(model)), reference_name(pair_model(model, prefix_sharing=False))}
    lower = pair_model(model)
    lower.precision = "bf16"
    names.add(reference_name(lower))
    names.add(reference_name(pair_model(tiny_llama(rms_norm_eps=1e-3))))
    monkeypatch.setattr(module, "ENGINE_VERSION", 2)
    names.add(reference_name(pair_model(model)))
    assert len(names) == 5


def test_threads_are_in_the_name_of_bf16_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share out a bf16 product, and each rounds its share."""
    model = pair_model(tiny_llama())
    names: dict[str, set[str]] = {"fp32": set(), "bf16": set()}
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for precision, found in names.items():
            model.precision = precision  # type: ignore[assignment]
            found.add(reference_name(model))
    assert [len(names["fp32"]), len(names["bf16"])] == [1, 2]


def test_where_a_model_came_from_is_not_in_a_name() -> None:
    """Path, tied or untied head of the same numbers and, in fp32, the depth of the trunk compute the same."""
    plain, other = tiny_llama(tied=True), tiny_llama(tied=True)
    other.config._name_or_path = "elsewhere"
    choose_trainable(other, 2)  # unties the head
    assert reference_name(pair_model(plain)) == reference_name(pair_model(other, trunk_layers=2))


def test_the_weights_of_the_upper_layers_are_not_in_the_name_of_a_trunk() -> None:
    """Nor is the final norm or the head; those of the embedding and of each frozen layer are."""

    def changed(change: Callable[[PairModel], torch.Tensor]) -> bool:
        model = pair_model(tiny_llama(), trunk_layers=2)
        before = trunk_name(model)
        with torch.no_grad():
            change(model).view(-1)[3] += 1e-6
        return trunk_name(model) != before

    def layer(place: int) -> Callable[[PairModel], torch.Tensor]:
        return lambda model: model.model.get_parameter(f"model.layers.{place}.mlp.up_proj.weight")

    assert changed(lambda model: model.model.get_input_embeddings().weight)  # type: ignore[return-value,union-attr]
    assert [changed(layer(place)) for place in range(4)] == [True, True, False, False]
    assert not changed(lambda model: head(model.model).weight)
    assert not changed(lambda model: decoder(model.model).get_parameter("norm.weight"))


def test_another_depth_is_another_trunk() -> None:
    model = tiny_llama()
    assert trunk_name(pair_model(model, trunk_layers=2)) != trunk_name(pair_model(model, trunk_layers=3))
