"""Is the data the trouble: what lint finds in it, and labels that the policy does not come to agree with."""

from __future__ import annotations

from itertools import islice
from typing import Any

from penchant.data.lint import lint
from penchant.evaluation.explanations import remedies
from penchant.evaluation.explanations.explanation import (
    CANNOT_TELL,
    NO,
    YES,
    Advice,
    Case,
    Explanation,
    Missing,
    texts_of,
    usable,
)
from penchant.evaluation.explanations.measures import Sightings, lowest, trained_before, wins
from penchant.evaluation.monitors import LEAST_PAIRS
from penchant.evaluation.run_record import RunRecord
from penchant.evaluation.stats import Interval, wilson
from penchant.types import PreferencePair

NAME = "data"

_MOST_LINTED = 5000  # pairs
_SHOWN = 5

# From which share of the pairs on a defect of the data is trouble. Conventions: a contradiction or a score that
# says otherwise is a wrong label for sure, so few are many; repetitions and ties only waste what they take.
_FROM_SHARE = {
    "contradictory_preferences": 0.01,
    "score_disagrees": 0.01,
    "identical_normalised": 0.05,
    "exact_duplicate": 0.05,
    "suspected_swap": 0.0,
}
_TIES_FROM = 0.05
_DROPPED_FROM = 0.2
_RESISTING_FROM = 0.1  # surely more pairs than this stay wrong after having been trained on


def data_trouble(record: RunRecord) -> Explanation:
    """Answer from the rows, where they can be read, and from the pairs' course in training.

    Yes: labels were drawn at random; or a defect of the rows takes the share that is written beside it (1 % for
    contradictions and scores that say otherwise, 5 % for tied scores, repetitions and equal responses, 20 % for
    rows dropped); or, of pairs that were trained on before, surely more than 10 % stay on the wrong side while the
    policy is surely right on most. No: the rows could be read and nothing of this is so.
    """
    if record.config.data.random_labels:
        advice = (Advice(("data.random_labels=false",), "train on the labels that the data has"),)
        return Explanation(
            NAME,
            YES,
            "labels were drawn at random: data.random_labels is on",
            rows_told(record),
            advice=usable(record.config, advice),
        )
    told, facts, troubles = _of_rows(record)
    resisting, sentence, more = _resisting(record)
    told += sentence
    facts |= more
    if resisting:
        troubles.append(sentence[0])
    if troubles:
        advice = (
            remedies.inspect_data(),
            remedies.smoothing(_noise(facts)),
            remedies.robust(_noise(facts)),
        )
        rest = tuple(line for line in told if line != troubles[0])
        return Explanation(NAME, YES, troubles[0], rest, facts, _stubborn(record), usable(record.config, advice))
    if record.pairs:
        return Explanation(NAME, NO, "no: nothing that the rows or their course show", tuple(told), facts)
    missing = Missing("the rows", "penchant inspect DATA --check")
    summary = "cannot tell: the rows cannot be read from where they were"
    return Explanation(NAME, CANNOT_TELL, summary, tuple(told), facts, missing=(missing,))


def rows_told(record: RunRecord) -> tuple[str, ...]:
    """Return what became of the rows, as a sentence; () where that is not recorded."""
    total = sum(record.rows.values())
    if not total:
        return ()
    return (f"of {total} rows {record.rows.get('dropped', 0)} were dropped, {record.rows.get('cut', 0)} cut",)


def _of_rows(record: RunRecord) -> tuple[list[str], dict[str, Any], list[str]]:
    told, facts, troubles = list(rows_told(record)), dict[str, Any](), []
    total = sum(record.rows.values())
    if total:
        facts["dropped_fraction"] = record.rows.get("dropped", 0) / total
        if facts["dropped_fraction"] >= _DROPPED_FROM:
            troubles.append(told[0])
    pairs = list(islice(record.pairs.values(), _MOST_LINTED))
    if not pairs:
        return told, facts, troubles
    for finding in lint({"train": pairs}):
        part = finding.count / len(pairs)
        if finding.check in _FROM_SHARE:
            facts[f"{finding.check}_fraction"] = part
            sentence = f"{finding.count} of {len(pairs)} pairs: {finding.what} ({'; '.join(finding.examples[:2])})"
            told.append(sentence)
            if part >= _FROM_SHARE[finding.check]:
                troubles.append(sentence)
    ties = _tied(pairs)
    if ties is not None:
        facts["tied_fraction"] = ties
        sentence = f"{ties:.1%} of the pairs have the same score on both sides"
        told.append(sentence)
        if ties >= _TIES_FROM:
            troubles.append(sentence)
    return told, facts, troubles


def _tied(pairs: list[PreferencePair]) -> float | None:
    """Of pairs whose sides are scored, the share with equal scores; None without scores."""
    scored = [pair for pair in pairs if None not in (pair.score_chosen, pair.score_rejected)]
    if not scored:
        return None
    return sum(pair.score_chosen == pair.score_rejected for pair in scored) / len(scored)


def _resisting(record: RunRecord) -> tuple[bool, list[str], dict[str, Any]]:
    """Whether pairs that were trained on stay wrong, though the policy is right on most."""
    again = trained_before(record, LEAST_PAIRS)
    if again is None:
        return False, [], {}
    wrong, right = _wrong(again), wilson(float(wins(again.margins).sum()), len(again))
    resisting = wrong.low > _RESISTING_FROM and right.low > 0.5
    facts = {"resisting_fraction": wrong.value, "resisting_fraction_interval": [wrong.low, wrong.high]}
    sentence = (
        f"of {len(again)} pairs that had been trained on before, {wrong.value:.1%} [{wrong.low:.1%}, "
        f"{wrong.high:.1%}] stay on the wrong side: labels that contradict the rest, or too hard for this model"
    )
    return resisting, [sentence], facts


def _wrong(again: Sightings) -> Interval:
    return wilson(int((again.margins < 0).sum()), len(again))


def _noise(facts: dict[str, Any]) -> float:
    """A guess at the share of wrong labels, for label smoothing."""
    shares = [facts.get(name, 0.0) for name in ("contradictory_preferences_fraction", "score_disagrees_fraction")]
    return max(facts.get("resisting_fraction", 0.0), *shares, 0.05)


def _stubborn(record: RunRecord) -> tuple[Case, ...]:
    again = trained_before(record, LEAST_PAIRS)
    if again is None:
        return ()
    return tuple(
        Case(
            again.ids[place],
            f"margin {again.margins[place]:+.2f} nats after {again.before[place]} times of training",
            **texts_of(record, again.ids[place]),
        )
        for place in lowest(again.margins, _SHOWN)
    )
