"""`penchant generate`: ask a model something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penchant.generation.generate import generate
from penchant.generation.sampling import Sampling
from penchant.models.load import load_model
from penchant.types import Turn
from penchant.workflow.setup import run_config
from penchant.workflow.stopping import Stopper


def ask(
    model: str,
    prompt: str,
    *,
    system: str | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    stopper: Stopper | None = None,
) -> list[dict[str, Any]]:
    """Return answers as {"text", "finished", "tokens"}.

    Args:
        model: A model name, or a run directory, whose model is then asked in the format that it was trained in.
        prompt: The user's turn.
        system: A system turn before it.
        max_new_tokens: Longest answer, tokens.
        temperature: 0 takes the likeliest token.
        samples: How many answers.
        seed: Of the sampling.
        stopper: Asked before every token whether to stop.
    """
    stopper = stopper or Stopper()
    inner = Path(model) / "model"
    loaded = load_model(str(inner) if inner.is_dir() else model)
    config = run_config(Path(model))
    chat = loaded.chat if config is None else loaded.chat.in_format(config.data.format)
    turns = [Turn("system", system)] if system is not None else []
    ids = chat.prompt_ids([*turns, Turn("user", prompt)])
    [answers] = generate(
        loaded,
        [ids],
        max_new_tokens=max_new_tokens,
        samples=samples,
        sampling=Sampling(temperature=temperature, seed=seed),
        check_stop=stopper.check,
    )
    return [
        {"text": loaded.chat.decode(one.ids).strip(), "finished": one.finished, "tokens": len(one.ids)}
        for one in answers
    ]
