"""Held-out pairs and examples to imitate, scored by log-probability."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.config import Config, DataConfig
from penchant.data.formats import LABELLED
from penchant.data.ledger import Ledger
from penchant.data.source import load_pairs
from penchant.errors import DataError
from penchant.evaluation.breakdown import Groups, breakdown_figures, groups_of
from penchant.evaluation.calibration import calibration_figures
from penchant.evaluation.likelihood import likelihood_figures
from penchant.evaluation.measures import Measure
from penchant.evaluation.pair_scores import row_scores
from penchant.evaluation.preference import preference_figures
from penchant.evaluation.preference_length import length_figures, matched_lengths
from penchant.models.load import LoadedModel
from penchant.objective.losses import margin
from penchant.objective.metrics import wins
from penchant.types import PreferencePair
from penchant.workflow.setup import read_pairs
from penchant.workflow.sft import training_pairs
from penchant.workflow.suites.labelled import labelled_suite
from penchant.workflow.suites.scored_rows import Rows, scored_rows
from penchant.workflow.suites.suite import Judged, Outcome, Suite, Work, content_of

PAIRS, EXAMPLES = "pairs", "examples"


def pair_suites(data: Path, configs: Sequence[Config], *, limit: int | None = None) -> list[Suite]:
    """Return the suites of held-out rows: pairs, or responses with a label, and after SFT examples to imitate.

    Args:
        data: A file, or a folder with a `test` split.
        configs: Of the models that are judged.
        limit: Only the first rows.

    Raises:
        DataError: The rows are none of these.
    """
    imitating = next((config for config in configs if config.objective.loss == "sft"), None)
    suites: list[Suite] = []
    if imitating is not None:
        rows = training_pairs(imitating, data, split="test", limit=limit)
        suites.append(_suite(EXAMPLES, *rows, imitating.data))  # one rule of what is scored for all models
    try:
        suites.append(_suite(PAIRS, *read_pairs(data, split="test", limit=limit)))
    except DataError as error:
        labelled = _labelled(data, limit)
        if labelled is not None:
            suites.append(labelled)
        elif not suites:
            raise error  # else they are examples that are no pairs
    return suites


def _labelled(data: Path, limit: int | None) -> Suite | None:
    try:
        rows, ledger = load_pairs(data, split="test" if data.is_dir() else None, limit=limit, data_format=LABELLED)
    except DataError:
        return None  # what was wrong with them as pairs is what the user should read
    return labelled_suite(rows, ledger) if all(row.desirable is not None for row in rows) else None


def _suite(what: str, pairs: Sequence[PreferencePair], ledger: Ledger, scored: DataConfig | None = None) -> Suite:
    clusters = {pair.id: pair.cluster or pair.id for pair in pairs}
    groups = groups_of(pairs)

    def measure(loaded: LoadedModel, work: Work) -> Outcome:
        return scored_rows(loaded, pairs, copy.deepcopy(ledger), work, what, scored or work.config.data)

    def judge(outcome: Outcome, reference: Outcome | None, work: Work) -> Judged:
        rows = Rows(outcome, reference, clusters)
        rows.warn_of_other_tokens(what, reference, work)
        if what == PAIRS:
            return _judged_pairs(rows, groups, work)
        return _judged_examples(rows, alike=reference is None or rows.reference is not None)

    settings = scored.model_dump(mode="json") if scored else None
    return Suite(what, content_of(pairs, what, settings), measure, judge)


def _judged_pairs(rows: Rows, groups: Mapping[str, Groups], work: Work) -> Judged:
    lines = _preferences(rows, groups)
    if rows.reference is None:
        return Judged(lines)
    ours, theirs = rows.all, rows.reference
    beta, clusters = work.config.objective.beta, list(rows.clusters.values())
    rewards = beta * margin(ours, theirs)
    lines["preference"] += [
        rows.measure("implicit-reward accuracy", wins(rewards), better="higher"),
        rows.measure("implicit-reward margin", rewards, kind="mean", better="higher"),
        rows.measure("chosen log-prob fell", (ours.chosen < theirs.chosen).double(), better="lower"),
    ]
    details: dict[str, Any] = length_figures(ours, theirs, clusters)
    details |= calibration_figures(ours, theirs, clusters, beta=beta)
    for name in ("source", "subset"):
        own = [getattr(groups[one], name) for one in rows.ids]
        if len(set(own)) > 1:
            details[f"by_{name}"] = breakdown_figures(ours, theirs, clusters, own, beta=beta)
    figures = preference_figures(ours, theirs, clusters, beta=beta)
    kept = row_scores(rows.ids, clusters, rows.contents, ours, theirs)
    return Judged(lines, figures, details, pair_scores=kept)


def _preferences(rows: Rows, groups: Mapping[str, Groups]) -> dict[str, list[Measure]]:
    """Whether the chosen response is the more probable one: over all pairs, at like lengths, and by subset."""
    ours, means = rows.all, rows.all.mean()
    right = rows.measure(
        "preference accuracy, mean log-prob", wins(means.chosen - means.rejected), better="higher"
    )
    by_sum = rows.measure(
        "preference accuracy, summed log-prob", wins(ours.chosen - ours.rejected), better="higher"
    )
    lengths = ours.chosen_tokens.double(), ours.rejected_tokens.double()
    longer = rows.measure('the rule "the longer response wins"', wins(lengths[0] - lengths[1]))
    matched = matched_lengths(lengths[0].numpy(), lengths[1].numpy())
    alike = {one for one, same in zip(rows.ids, matched, strict=True) if same}
    lines = {"preference": [right, by_sum, longer]}
    if alike:
        lines["preference"].append(right.part(alike, f"{right.name}, lengths alike"))
    subsets = {groups[one].subset for one in rows.ids} - {""}
    for subset in sorted(subsets):
        inside = {one for one in rows.ids if groups[one].subset == subset}
        heading = next((name for word, name in _HEADINGS.items() if word in subset), "preference")
        lines.setdefault(heading, []).append(right.part(inside, f"preference accuracy, {subset}"))
    return lines


_HEADINGS = {"harmless": "harmlessness", "helpful": "helpfulness"}


def _judged_examples(rows: Rows, *, alike: bool) -> Judged:
    """The loss a token; under a name of its own where it is that of other tokens than the reference's."""
    ours = rows.all
    name = "loss a token of examples, nats" if alike else "loss a token of examples, other tokens, nats"
    weights = dict(zip(rows.ids, ours.chosen_tokens.tolist(), strict=True))
    loss = -ours.chosen.double() / ours.chosen_tokens.double()
    line = rows.measure(name, loss, kind="mean", better="lower", weights=weights)
    if rows.reference is None:
        return Judged({"likelihood": [line]})
    figures = likelihood_figures(ours, rows.reference, list(rows.clusters.values()))
    return Judged({"likelihood": [line]}, figures)
