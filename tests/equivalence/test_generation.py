"""The bundled model's answers in fp32: the same text in any batch, and as transformers alone generates it."""

from __future__ import annotations

import pytest
import torch

from penchant.generation.answers import answer_prompts
from penchant.models.load import LoadedModel, load_model
from penchant.types import Prompt, Sampling, Turn

QUESTIONS = (
    "Why do cats purr?",
    "Name three rivers of Europe, and say where each of them ends.",
    "What is 7 times 8?",
    "Write a short poem about rain.",
    "How does a bicycle stay upright? Explain it to a child of six years who has just fallen off one.",
    "Who wrote Hamlet?",
    "Give me a recipe for pancakes.",
    "Say hello.",
    "What causes tides?",
)
PROMPTS = [Prompt(str(place), (Turn("user", text),)) for place, text in enumerate(QUESTIONS)]
NEW = 24


@pytest.fixture(scope="module")
def bundled() -> LoadedModel:
    return load_model("bundled")


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, top_p=0.95, seed=1)])
def test_any_batch_gives_the_same_text(bundled: LoadedModel, sampling: Sampling) -> None:
    found = [
        answer_prompts(bundled, PROMPTS, max_new_tokens=NEW, sampling=sampling, batch_rows=rows)
        for rows in (1, 7, 32)
    ]
    assert found[0] == found[1] == found[2]
    assert all(answer.text for row in found[0] for answer in row)


@pytest.mark.slow
def test_greedy_text_is_what_transformers_generates(bundled: LoadedModel) -> None:
    found = answer_prompts(bundled, PROMPTS[:5], max_new_tokens=NEW)
    for prompt, [answer] in zip(PROMPTS, found, strict=False):
        ids = bundled.chat.prompt_ids(prompt.turns)
        out = bundled.model.generate(  # type: ignore[operator]
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=list(bundled.stop_ids),
            pad_token_id=bundled.pad_id,
        )
        assert bundled.chat.decode(out[0, len(ids) :].tolist()).strip() == answer.text
