"""Why is my chosen reward falling: whether it does, what the margin is made of, and whose pairs those are."""

from __future__ import annotations

from typing import Any

import numpy as np

from penchant.evaluation.explanations import remedies
from penchant.evaluation.explanations.explanation import (
    CANNOT_TELL,
    NO,
    YES,
    Case,
    Explanation,
    Missing,
    figure,
    shown,
    texts_of,
    usable,
)
from penchant.evaluation.explanations.measures import (
    Sightings,
    enough_recent,
    group_difference,
    likenesses,
    lowest,
    mean,
    share,
    sightings_of,
)
from penchant.evaluation.monitors import LEAST_PAIRS, RECENT, displacement
from penchant.evaluation.run_record import RunRecord
from penchant.evaluation.stats import Interval

NAME = "chosen_falls"

_SHOWN = 10
_SIMILAR_SHARE = 1 / 3  # of the pairs, those whose sides are most alike
_LEAST_GROUP = 16  # pairs


def chosen_falls(record: RunRecord) -> Explanation:
    """Answer from the monitor's own finding, and from held-out pairs.

    Yes: `monitors.displacement` found it, or on held-out pairs more than half fell and the mean fell, both with
    95 % confidence. No: one of the two had at least 64 pairs, and neither found it.
    """
    finding = displacement(record.steps)
    held = _held_out_fall(record)
    trained = enough_recent(record.steps)
    facts: dict[str, Any] = {} if finding is None else {name: value for name, value in finding.figures.items()}
    told, more = _decomposed(record)
    facts |= more
    if held is not None:
        fell, fall = held
        facts |= figure("held_out_fell_fraction", fell) | figure("held_out_chosen_log_ratio", fall)
        told.append(
            f"on {_count(record)} held-out pairs {fell.value:.0%} [{fell.low:.0%}, {fell.high:.0%}] of the chosen "
            f"responses fell; mean log-ratio {shown(fall, '.2f')} nats"
        )
    fallen_held_out = held is not None and held[0].low > 0.5 and held[1].high < 0
    if finding is None and not fallen_held_out:
        return _not_falling(record, tuple(told), facts, known=trained or held is not None)
    similar, likeness_told, likeness_facts = _by_likeness(record)
    advice = [
        *([remedies.drop_similar()] if similar else []),
        remedies.dpop(),
        remedies.likelihood_term(),
        remedies.lower_learning_rate(record.config, "smaller updates move the chosen responses less"),
        remedies.higher_beta(record.config, "a stronger tie to the reference lets both responses move less"),
    ]
    summary = finding.summary if finding else _fell_held_out(held)
    return Explanation(
        NAME,
        YES,
        summary,
        (*told, *likeness_told),
        facts | likeness_facts,
        _worst(record),
        usable(record.config, advice),
        () if held is not None else (_missing_held_out(record),),
    )


def worst_ids(record: RunRecord, count: int) -> list[str]:
    """Return the pairs whose chosen response had fallen most when it was last seen, the worst first."""
    last = sightings_of(record.pair_lines).last()
    return [last.ids[place] for place in lowest(last.chosen, count)]


def _not_falling(record: RunRecord, told: tuple[str, ...], facts: dict[str, Any], *, known: bool) -> Explanation:
    if known:
        summary = "no: most chosen responses are not surely below the reference, or not in the mean"
        return Explanation(NAME, NO, summary, told, facts)
    if record.steps and not any("chosen_fell_fraction" in step for step in record.steps):
        what = "the loss compares with no reference, so nobody measured a fall in training"
    else:
        what = f"fewer than {LEAST_PAIRS} pairs in the last quarter of the steps"
    return Explanation(
        NAME, CANNOT_TELL, f"cannot tell: {what}", told, facts, missing=(_missing_held_out(record),)
    )


def _missing_held_out(record: RunRecord) -> Missing:
    command = f"penchant eval {record.run} --data HELD_OUT"
    return Missing(f"scores of at least {LEAST_PAIRS} held-out pairs", command)


def _fell_held_out(held: tuple[Interval, Interval] | None) -> str:
    share_below = f"{held[0].value:.0%}" if held else ""
    return f"chosen responses of held-out pairs have become less probable: {share_below} lie below the reference"


def _count(record: RunRecord) -> int:
    return len(record.held_out) if record.held_out else 0


def _held_out_fall(record: RunRecord) -> tuple[Interval, Interval] | None:
    scores = record.held_out
    if scores is None or len(scores) < LEAST_PAIRS:
        return None
    chosen = scores.log_ratios[:, 0]
    return share(chosen < 0, scores.clusters), mean(chosen, scores.clusters)


def _decomposed(record: RunRecord) -> tuple[list[str], dict[str, Any]]:
    """The margin's two halves at the end: chosen up, or rejected down."""
    if record.config.objective.loss == "kto":  # of its responses half are to fall
        return [], {}
    recent = sightings_of(record.pair_lines).since(RECENT) if record.pair_lines else None
    if recent is None or len(recent) < 2:
        return [], {}
    clusters = _clusters(record, recent)
    parts = {"chosen": recent.chosen, "rejected": recent.rejected, "margin": recent.margins}
    found = {name: mean(values, clusters) for name, values in parts.items()}
    unit = "nats per token" if record.config.objective.logps.startswith("mean") else "nats"
    chosen, rejected, margin = (found[name] for name in parts)
    facts: dict[str, Any] = {}
    for name, interval in found.items():
        facts |= figure(f"recent_{name}_log_ratio" if name != "margin" else "recent_margin", interval)
    how = "the margin grew" if margin.low > 0 else "the margin did not surely grow"
    if chosen.high < 0 and rejected.high < 0:
        how += " because the rejected ones fell further" if margin.low > 0 else ", both sides fell"
    sentence = (
        f"at the end the chosen responses lie {shown(chosen, '.2f')} {unit} from the reference and the rejected "
        f"ones {shown(rejected, '.2f')}: {how} (margin {shown(margin, '.2f')})"
    )
    return [sentence], facts


def _clusters(record: RunRecord, seen: Sightings) -> list[str]:
    return [record.pairs[name].cluster or name if name in record.pairs else name for name in seen.ids]


def _by_likeness(record: RunRecord) -> tuple[bool, list[str], dict[str, Any]]:
    """Whether the pairs whose two sides are most alike fell further than the rest."""
    last = sightings_of(record.pair_lines).last() if record.pair_lines else None
    alike = likenesses(last.ids, record.pairs) if last is not None else {}
    if last is None or len(alike) < 2 * _LEAST_GROUP:
        return False, [], {}
    known = last.select(np.array([name in alike for name in last.ids]))
    values = np.array([alike[name] for name in known.ids])
    least = np.quantile(values, 1 - _SIMILAR_SHARE)
    member = values >= least
    if not _LEAST_GROUP <= member.sum() <= len(values) - _LEAST_GROUP:
        return False, [], {}
    gap = group_difference(known.chosen, member, _clusters(record, known))
    further = gap.high < 0
    word = "further than" if further else "not surely otherwise than"
    sentence = (
        f"the {int(member.sum())} pairs whose two responses are most alike (at least {least:.0%} of the words) "
        f"fell {word} the other {int((~member).sum())}: difference {shown(gap, '.2f')} nats"
    )
    return further, [sentence], figure("similar_pairs_difference", gap) | {"similar_from": float(least)}


def _worst(record: RunRecord) -> tuple[Case, ...]:
    last = sightings_of(record.pair_lines).last() if record.pair_lines else None
    if last is None:
        return ()
    place = {name: index for index, name in enumerate(last.ids)}
    kept = {str(row.get("id")): row for row in record.training.get("worst_pairs", ()) if isinstance(row, dict)}
    cases = []
    for name in worst_ids(record, _SHOWN):
        index = place[name]
        note = (
            f"chosen {last.chosen[index]:+.2f} nats, rejected {last.rejected[index]:+.2f}, at step "
            f"{last.steps[index]} ({int(last.tokens[index, 0])} and {int(last.tokens[index, 1])} tokens)"
        )
        cases.append(Case(name, note, **texts_of(record, name, kept.get(name))))
    return tuple(cases)
