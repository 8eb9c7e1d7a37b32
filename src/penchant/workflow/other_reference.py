"""A reference that is another model than the policy's start: loaded alone, scored once, and let go of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penchant.config import Config
from penchant.errors import ModelError
from penchant.models.bundled import cache_directory
from penchant.models.digest import weights_digest
from penchant.models.load import architecture_for, load_model
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device
from penchant.objective.reference import Reference, reference_logps
from penchant.types import TokenizedPair
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import scoring_model
from penchant.workflow.stopping import Stopper, stoppable_progress

_SHOWN_DIGITS = 16  # of a digest, on the console


@dataclass(frozen=True)
class OtherReference:
    """What another model than the policy's start gives.

    Attributes:
        weights: Digest of its weights.
        scores: Its log-probabilities.
    """

    weights: str
    scores: Reference


def score_other_reference(
    config: Config,
    pairs: Sequence[TokenizedPair],
    chunks: Sequence[Sequence[int]],
    keys: dict[int, bytes],
    vocabulary: Mapping[str, int],
    reporter: Reporter,
    stopper: Stopper,
) -> OtherReference:
    """Return the log-probabilities of `model.reference`, stored or scored, in the passes of the first epoch.

    The model is not kept. It runs all its layers: which of them the policy will share is not looked for.

    Args:
        config: Of the run.
        pairs: What is scored.
        chunks: Which of them this process scores, and which share a pass.
        keys: What the pairs of all processes are found by.
        vocabulary: The policy's, whose ids the pairs hold.
        reporter: Hears notes and progress.
        stopper: Asked after every pass whether to stop.

    Raises:
        ModelError: It cannot be loaded, or it reads other tokens than the policy.
    """
    name = str(config.model.reference)
    architecture = architecture_for(config.model, name)
    loaded = load_model(name, architecture=architecture, device=choose_device(config.engine.device))
    own = loaded.tokenizer.get_vocab()
    strange = next((token for token in sorted(vocabulary) if own.get(token) != vocabulary[token]), None)
    if strange is not None:
        raise ModelError(
            f"the token {strange!r} is {vocabulary[strange]} for the policy and {own.get(strange)} for this one",
            where=name,
            fix="Policy and reference need one vocabulary: name another model.reference, or remove it.",
        )
    model = scoring_model(
        loaded, config.engine, max_tokens=config.data.max_tokens, trunk_layers=0, reporter=reporter
    )
    weights = weights_digest(loaded.model)
    with stoppable_progress(reporter, stopper, "Scoring the reference", sum(map(len, chunks))) as scored:
        scores = reference_logps(
            model,
            pairs,
            cache_directory() / "reference",
            micro_batch_tokens=config.engine.micro_batch_tokens,
            weights=weights,
            chunks=chunks,
            keys=keys,
            on_pairs=scored,
            note=reporter.note,
            ld_alpha=config.objective.ld_alpha,
        )
    del model, loaded
    release_memory()
    return OtherReference(weights, scores)


def describe_other(config: Config, policy_weights: str, other: OtherReference) -> str:
    """Return one line with both digests, and what cannot be checked any more.

    Args:
        config: Of the run.
        policy_weights: Digest of the policy's weights at the start.
        other: The reference.
    """
    same = " (the same weights)" if other.weights == policy_weights else ""
    return (
        f"Reference: {config.model.reference}, weights {other.weights[:_SHOWN_DIGITS]}{same}; "
        f"policy: {config.model.path}, weights {policy_weights[:_SHOWN_DIGITS]}. "
        "The first loss has no known value then, so it is not checked."
    )
