"""Every fast path of a training step against its slow twin: losses, log-probabilities and gradients."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import FAMILIES, PAD, largest_difference, random_groups, tiny_family

from penchant.batching.pair_batch import Group
from penchant.config import ObjectiveConfig
from penchant.models import attention
from penchant.models.freeze import choose_trainable
from penchant.models.precision import compute_in
from penchant.objective.head import PairLosses, PairObjective
from penchant.objective.logps import PairLogps
from penchant.objective.loss_table import pair_objective
from penchant.objective.pair_facts import PairFacts
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache, trunk_output

SHARED = tuple(name for name in FAMILIES if not name.startswith("Gemma"))
GROUPS = random_groups(7, seed=4)
LOGPS, GRADIENTS = 1e-5, 1e-4


def reference() -> PairLogps:
    torch.manual_seed(5)
    return PairLogps(
        *(-40 * torch.rand(len(GROUPS)) for _ in range(2)), *(torch.ones(len(GROUPS)) for _ in range(2))
    )


def step(model: torch.nn.Module, **paths: object) -> tuple[PairLosses, dict[str, torch.Tensor]]:
    """Losses and gradients of one micro-batch, by the paths chosen."""
    options = {"trunk_layers": 0, "prefix_sharing": True, "precision": "fp32", **paths}
    scorer = PairModel(model, pad_id=PAD, **options)  # type: ignore[arg-type]
    weights = torch.linspace(0.05, 0.3, len(GROUPS))
    objective = pair_objective(ObjectiveConfig(), reference(), PairFacts(weights))  # type: ignore[call-arg]
    model.zero_grad(set_to_none=True)
    result = scorer.losses(scorer.collate(GROUPS), objective)
    with compute_in(scorer.precision, "cpu"):
        result.total.backward()
    return result, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(
    fast: tuple[PairLosses, dict[str, torch.Tensor]], slow: tuple[PairLosses, dict[str, torch.Tensor]]
) -> None:
    for one, other in zip(vars(fast[0].logps).values(), vars(slow[0].logps).values(), strict=True):
        assert largest_difference(one, other) <= LOGPS
    assert largest_difference(fast[0].losses, slow[0].losses) <= LOGPS
    assert fast[1].keys() == slow[1].keys()
    largest = max(float(value.abs().max()) for value in slow[1].values())
    for name, value in slow[1].items():
        assert float((fast[1][name] - value).abs().max()) <= GRADIENTS * largest, name


@pytest.mark.parametrize("last_layers", [None, 0, 1, 2])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_the_fast_step_is_the_plain_step(name: str, tied: bool, last_layers: int | None) -> None:
    """All fast paths together against whole sequences through the model's own forward and torch's log_softmax."""
    model = tiny_family(name, tied=tied)
    part = choose_trainable(model, last_layers)
    assert_same(step(model, trunk_layers=part.frozen_layers), step(model, prefix_sharing=False))


@pytest.mark.parametrize("path", ["head_once", "last_layer_pruning"])
@pytest.mark.parametrize("name", SHARED)
def test_each_path_can_be_switched_off(name: str, path: str) -> None:
    """And nothing changes but the time that it takes."""
    model = tiny_family(name)
    assert_same(step(model), step(model, **{path: False}))


@pytest.mark.parametrize("name", ["Llama", "Qwen3"])
def test_the_named_kernel_is_torchs_own(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Attention with gradients written out against SDPA differentiated by torch."""
    model = tiny_family(name)
    fast = step(model)
    monkeypatch.setattr(attention, "_FLASH_ON_CPU", None)
    assert_same(fast, step(model))


def test_prompts_cost_the_last_layer_keys_and_values_only() -> None:
    """Its feed-forward part sees the positions that predict a scored token only; the lower layers see all."""
    model = tiny_family("Llama")
    rows: list[int] = []
    for layer in model.model.layers:  # type: ignore[union-attr]
        layer.mlp.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[1]))  # type: ignore[union-attr]
    scorer = PairModel(model, trunk_layers=0, prefix_sharing=True, precision="fp32", pad_id=PAD)
    batch = scorer.collate(GROUPS)
    with torch.no_grad():
        scorer(batch)
    assert rows == [batch.num_tokens, batch.num_tokens, len(batch.predict_index.unique())]
    assert rows[-1] < batch.num_tokens


@pytest.mark.parametrize("last_layers", [None, 1])
def test_bf16_is_no_worse_than_the_plain_bf16_path(last_layers: int | None) -> None:
    """Both against fp32: log-probabilities and gradients of our bf16 are at least as near as autocast's."""
    model = tiny_family("Llama", layers=6, hidden_size=64, intermediate_size=128)
    part = choose_trainable(model, last_layers)
    exact = step(model, trunk_layers=part.frozen_layers)
    ours = step(model, trunk_layers=part.frozen_layers, precision="bf16")
    with torch.autocast("cpu", torch.bfloat16):
        plain = step(model, prefix_sharing=False)

    def error(found: tuple[PairLosses, dict[str, torch.Tensor]]) -> tuple[float, float]:
        away = [float((found[1][name] - value).norm() ** 2) for name, value in exact[1].items()]
        logps = torch.cat(
            [found[0].logps.chosen - exact[0].logps.chosen, found[0].logps.rejected - exact[0].logps.rejected]
        )
        return float(logps.norm()), sum(away) ** 0.5

    assert error(ours)[0] <= error(plain)[0]
    assert error(ours)[1] <= error(plain)[1]
    assert error(plain)[0] > 0


def test_pairs_of_one_prompt_cost_its_tokens_once() -> None:
    """Three pairs of one prompt, two of which share a response: the same losses and gradients as each alone."""
    model = tiny_family("Llama")
    prompt = (5, 6, 7, 8, 9)
    groups = [
        Group(prompt, ((10, 11, 2), (12, 2))),
        Group((5, 6), ((7, 2), (8, 2))),
        Group(prompt, ((10, 11, 2), (13, 14, 15, 2))),
        Group(prompt, ((16, 2), (10, 17, 2))),
    ]
    scorer = PairModel(model, trunk_layers=0, prefix_sharing=True, precision="fp32", pad_id=PAD)
    together = scorer.collate(groups)
    # the prompt once, then what five different responses are fed beyond what they share
    assert together.num_tokens == (5 + 2 + 1 + 3 + 1 + 2) + (2 + 1 + 1)
    objective = pair_objective(
        ObjectiveConfig(),  # type: ignore[call-arg]
        PairLogps(*torch.full((2, 4), -9.0), *torch.ones(2, 4)),
        PairFacts(torch.tensor([0.1, 0.2, 0.3, 0.4])),
    )
    result = scorer.losses(together, objective)
    result.total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    for place, group in enumerate(groups):
        alone = PairObjective(
            lambda policy, places, shift=place: objective.losses_of(policy, places + shift),
            objective.weights[[place]],
        )
        one = scorer.losses(scorer.collate([group]), alone)
        one.total.backward()
        assert float(one.losses) == pytest.approx(float(result.losses[place]), rel=1e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert largest_difference(found[name], parameter.grad) <= GRADIENTS


def test_the_trunk_of_a_shared_prompt_is_kept_by_pair() -> None:
    """Kept from a row that two pairs shared, given back to rows in which each is alone; and back."""
    model = tiny_family("Llama")
    prompt = (5, 6, 7)
    groups = [Group(prompt, ((10, 11, 2), (12, 2))), Group(prompt, ((10, 13, 2), (14, 2)))]
    scorer = PairModel(model, trunk_layers=1, prefix_sharing=True, precision="fp32", pad_id=PAD)
    both, apart = scorer.collate(groups), [scorer.collate([group]) for group in groups]
    for first, second in (([both], apart), (apart, [both])):
        cache = TrunkCache(1 << 20)
        for batches, computed in ((first, True), (second, False)):
            at = 0
            for batch in batches:
                indices = list(range(at, at + len(batch.sizes)))
                at = indices[-1] + 1
                assert (cache.one(indices[0]) is None) is computed
                output = trunk_output(scorer, batch, indices, cache)
                assert output is not None
                assert largest_difference(output, scorer.trunk(batch)) <= 1e-6
