"""What `penchant eval` prints of examples to imitate: the held-out loss per token, before and after."""

from __future__ import annotations

from typing import Any


def describe_likelihood(figures: dict[str, Any]) -> str:
    """Return the lines about the held-out loss; "" where none was measured.

    Args:
        figures: See `penchant.evaluation.likelihood.likelihood_figures`.
    """
    if "token_loss_policy" not in figures:
        return ""
    return (
        f"Held-out examples ({figures['test_examples']}, {figures['test_example_tokens']} scored tokens), "
        "95 % intervals:\n"
        f"  loss per token, nats   {_nats(figures, 'token_loss_reference')} -> "
        f"{_nats(figures, 'token_loss_policy')}\n"
        f"  change                 {_nats(figures, 'token_loss_change', sign='+')}\n"
        f"  better than before on  {figures['examples_better_fraction']:.1%} of the examples"
    )


def _nats(figures: dict[str, Any], key: str, *, sign: str = "") -> str:
    text = f"{figures[key]:{sign}.4f}"
    if f"{key}_interval" not in figures:  # of a single question
        return text
    low, high = figures[f"{key}_interval"]
    return f"{text} [{low:{sign}.4f}, {high:{sign}.4f}]"
