"""Did it overfit: held-out loss that rises again, and pairs known by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penchant.evaluation.explanations import remedies
from penchant.evaluation.explanations.explanation import (
    CANNOT_TELL,
    NO,
    YES,
    Advice,
    Case,
    Explanation,
    Missing,
    figure,
    texts_of,
    usable,
)
from penchant.evaluation.explanations.measures import apart, lowest, share, sightings_of, trained_before, wins
from penchant.evaluation.monitors import Line
from penchant.evaluation.run_record import RunRecord
from penchant.evaluation.stats import Interval

NAME = "overfit"

_GAP = 0.1  # of accuracy, between pairs that were trained on and held-out ones
_TELLING = 0.15  # a gap whose interval reaches as far as this may be anything
_RISE_SHARE, _LEAST_RISE = 0.02, 0.01  # of the best held-out loss; and in its own unit
_LEAST_SEEN = 32  # pairs on either side of the gap; its interval says the rest
_HARDLY = 0.1  # of the sightings are of pairs that had been trained on
_SHOWN = 5


def overfit(record: RunRecord) -> Explanation:
    """Answer from the validation curve, and from the gap between pairs that were trained on and held-out ones.

    Yes: the last held-out loss lies above the best by 2 % and 0.01; or the implicit reward is right on pairs that
    had been trained on more often than on held-out ones, surely by more than ten points. No: neither, and there is
    a curve, or a gap that is surely below fifteen points, or hardly a pair was trained on twice. A validation's
    pairs are always the same, but its line holds means alone, so that rise has no interval.
    """
    told: list[str] = []
    facts: dict[str, Any] = {}
    rise = _rise(record.validations)
    if rise is not None:
        facts |= rise
        told.append(
            f"held-out loss {rise['best_loss']:.4f} at step {rise['best_step']}, {rise['last_loss']:.4f} at the "
            f"last validation (step {rise['last_step']})"
        )
    risen = rise is not None and rise["last_loss"] - rise["best_loss"] > max(
        _LEAST_RISE, _RISE_SHARE * abs(rise["best_loss"])
    )
    seen, held = _seen(record), _held_out(record)
    gap = None
    if seen is not None:
        facts |= figure("seen_accuracy", seen)
    if seen is not None and held is not None:
        gap = apart(seen, held)
        facts |= figure("held_out_accuracy", held) | figure("accuracy_gap", gap)
        told.append(
            f"right on {seen.value:.1%} [{seen.low:.1%}, {seen.high:.1%}] of pairs that had been trained on "
            f"before, on {held.value:.1%} [{held.low:.1%}, {held.high:.1%}] of held-out ones: gap "
            f"{gap.value:+.1%} [{gap.low:+.1%}, {gap.high:+.1%}]"
        )
    if risen or (gap is not None and gap.low > _GAP):
        return _overfitted(record, risen, tuple(told), facts)
    return _not_seen(record, rise, gap, tuple(told), facts)


def _overfitted(record: RunRecord, risen: bool, told: tuple[str, ...], facts: dict[str, Any]) -> Explanation:
    if risen:
        summary = (
            f"held-out loss was best at step {facts['best_step']} and has risen since, by "
            f"{facts['last_loss'] - facts['best_loss']:.4f}"
        )
    else:
        points = 100 * facts["accuracy_gap"]
        summary = f"it knows its training pairs better than others, by {points:.0f} points of accuracy"
    steps = int(record.steps[-1]["step"]) if record.steps else 100
    advice = [
        remedies.keep_best(max(1, steps // 10)),
        *([Advice(("train.epochs=1",), "see each pair once")] if record.config.train.epochs > 1 else []),
        remedies.smoothing(0.1),
        remedies.ipo(),
        remedies.higher_beta(record.config, "a stronger tie to the reference"),
    ]
    return Explanation(NAME, YES, summary, told, facts, _cases(record), usable(record.config, advice))


def _not_seen(
    record: RunRecord,
    rise: dict[str, Any] | None,
    gap: Interval | None,
    told: tuple[str, ...],
    facts: dict[str, Any],
) -> Explanation:
    if rise is not None or (gap is not None and gap.high < _TELLING):
        return Explanation(NAME, NO, "no: held-out figures did not get worse", told, facts)
    if _seen_once(record):
        summary = "no: hardly a pair was trained on twice, so the training figures are those of unseen pairs"
        return Explanation(NAME, NO, summary, told, facts)
    missing = (
        Missing("scores of held-out pairs", f"penchant eval {record.run} --data HELD_OUT"),
        Missing("a held-out curve", "the next run with --set train.evaluate_every=N"),
    )
    if gap is not None:
        why = f"the gap may be as large as {gap.high:.0%}: too few pairs"
    elif record.held_out is None:
        why = "nothing was held out"
    else:
        why = f"fewer than {_LEAST_SEEN} pairs were trained on twice, or held out"
    return Explanation(NAME, CANNOT_TELL, f"cannot tell: {why}", told, facts, missing=missing)


def _rise(validations: Sequence[Line]) -> dict[str, Any] | None:
    known = [line for line in validations if "loss" in line]
    if len(known) < 2:
        return None
    best, last = min(known, key=lambda line: line["loss"]), known[-1]
    return {
        "best_loss": float(best["loss"]),
        "best_step": int(best["step"]),
        "last_loss": float(last["loss"]),
        "last_step": int(last["step"]),
    }


def _seen_once(record: RunRecord) -> bool:
    """Whether training figures are those of unseen pairs, but for a few."""
    if not record.pair_lines or record.config.objective.loss == "kto":
        return False
    return bool((sightings_of(record.pair_lines).before > 0).mean() < _HARDLY)


def _seen(record: RunRecord) -> Interval | None:
    again = trained_before(record, _LEAST_SEEN)
    if again is None:
        return None
    clusters = [record.pairs[name].cluster or name if name in record.pairs else name for name in again.ids]
    return share(wins(again.margins), clusters)


def _held_out(record: RunRecord) -> Interval | None:
    scores = record.held_out
    if scores is None or len(scores) < _LEAST_SEEN:
        return None
    return share(wins(scores.margins), scores.clusters)


def _cases(record: RunRecord) -> tuple[Case, ...]:
    scores = record.held_out
    if scores is None:
        return ()
    return tuple(
        Case(
            scores.ids[place],
            f"held out; margin {scores.margins[place]:+.2f} nats",
            **texts_of(record, scores.ids[place]),
        )
        for place in lowest(scores.margins, _SHOWN)
    )
