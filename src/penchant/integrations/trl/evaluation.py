"""The figures of `DPOTrainer.evaluate`: those of a step's log line, on other pairs, without an update."""

from __future__ import annotations

from typing import Any

from penchant.config import Config
from penchant.errors import UsageError
from penchant.library.models import AnyModel
from penchant.library.rows import Rows
from penchant.library.score import score
from penchant.objective.loss_table import pair_losses
from penchant.workflow.reporter import Reporter


def evaluation(
    policy: tuple[AnyModel, Any], reference: tuple[AnyModel, Any], rows: Rows, config: Config, reporter: Reporter
) -> dict[str, float]:
    """Return loss, rewards and log-probabilities of pairs, each a mean over the pairs.

    Args:
        policy: A model by name, or in memory with its tokenizer.
        reference: Likewise.
        rows: The pairs.
        config: How they become tokens, how it is computed, and the loss.
        reporter: Hears how far it is.

    Raises:
        UsageError: The loss weighs tokens by themselves (`ld_alpha`).
        PenchantError: The pairs cannot be read or scored.
    """
    if config.objective.ld_alpha is not None:
        raise UsageError(
            "evaluate() does not know ld_alpha",
            where="evaluate",
            fix="Validate while training: eval_strategy.",
        )
    found = [
        score(model, rows, tokenizer=tokenizer, config=config, reporter=reporter)
        for model, tokenizer in (policy, reference)
    ]
    ours, theirs = (one.logps for one in found)
    losses = pair_losses(config.objective)(ours, theirs)
    beta = config.objective.beta
    chosen, rejected = beta * (ours.chosen - theirs.chosen), beta * (ours.rejected - theirs.rejected)
    figures = {
        "loss": losses,
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": (chosen > rejected).double(),
        "rewards/margins": chosen - rejected,
        "logps/chosen": ours.chosen,
        "logps/rejected": ours.rejected,
    }
    return {name: float(values.double().mean()) for name, values in figures.items()}
