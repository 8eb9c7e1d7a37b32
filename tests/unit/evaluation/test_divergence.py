"""KL and perplexity against a float64 twin in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.tiny import loaded, tiny_llama

from penchant.evaluation.divergence import divergence_figures, ordinary_paragraphs
from penchant.models.load import LoadedModel


def log_softmax(loaded_model: LoadedModel, text: str) -> tuple[list[int], np.ndarray]:
    ids = loaded_model.tokenizer(text, add_special_tokens=False).input_ids
    with torch.no_grad():
        scores = loaded_model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    table = scores.numpy().astype(np.float64)
    table -= table.max(axis=-1, keepdims=True)
    return ids, table - np.log(np.exp(table).sum(axis=-1, keepdims=True))


def twin(policy: LoadedModel, reference: LoadedModel) -> dict[str, float]:
    divergences: list[float] = []
    ours_nll: list[float] = []
    theirs_nll: list[float] = []
    for text in ordinary_paragraphs():
        ids, ours = log_softmax(policy, text)
        _, theirs = log_softmax(reference, text)
        divergences += (np.exp(ours) * (ours - theirs)).sum(axis=-1).tolist()
        for table, losses in ((ours, ours_nll), (theirs, theirs_nll)):
            losses += [-table[position, token] for position, token in enumerate(ids[1:])]
    return {
        "kl_to_reference": float(np.mean(divergences)),
        "perplexity_policy": float(np.exp(np.mean(ours_nll))),
        "perplexity_reference": float(np.exp(np.mean(theirs_nll))),
    }


def test_two_models_match_the_twin() -> None:
    policy, reference = loaded(tiny_llama(seed=1, layers=2)), loaded(tiny_llama(seed=2, layers=2))
    found = divergence_figures(policy, reference)
    assert found == pytest.approx(twin(policy, reference), rel=1e-5)
    assert found["kl_to_reference"] > 0.01
    assert found["perplexity_policy"] != found["perplexity_reference"]


def test_a_model_does_not_diverge_from_itself() -> None:
    found = divergence_figures(loaded(tiny_llama(seed=1)), loaded(tiny_llama(seed=1)))
    assert found["kl_to_reference"] == pytest.approx(0, abs=1e-6)
    assert found["perplexity_policy"] == pytest.approx(found["perplexity_reference"], rel=1e-6)


def test_a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large() -> None:
    model = tiny_llama(layers=1)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert divergence_figures(loaded(model), loaded(model))["perplexity_policy"] == pytest.approx(259, rel=1e-4)


def test_the_packaged_prose_is_paragraphs() -> None:
    paragraphs = ordinary_paragraphs()
    assert len(paragraphs) >= 5
    assert len(set(paragraphs)) == len(paragraphs)
    assert all(len(paragraph.split()) > 20 and paragraph == paragraph.strip() for paragraph in paragraphs)
