"""What the votes of an arena say: of the two models, and of the raters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from penchant.evaluation.arena.betting import decide
from penchant.evaluation.arena.noise import label_noise, smoothing_offer
from penchant.evaluation.arena.votes import CHOICES, SCORES, Verdict, Vote, first_votes, scores_by_prompt
from penchant.evaluation.judge_card import cohen_kappa
from penchant.evaluation.stats import Interval, cluster_bootstrap, mcnemar_exact, wilson

ALPHA = 0.05
_ENOUGH_CLUSTERS = 20  # from here on the bootstrap over prompts is not too narrow
_FEWEST_DECIDED = 10  # votes before a rater is told of a bias to one side
_SURE = 0.01


def arena_figures(names: Sequence[str], prompts: int, votes: Sequence[Vote]) -> dict[str, Any]:
    """Return all figures of an arena as plain data; fractions lie in [0, 1], intervals are 95 %.

    `win_rate` is the first model's: a tie and "both bad" are one half, a prompt counts once however many rated it.
    It rests on each rater's first vote on a prompt; repeats say how steady raters are (`consistency`), and how
    often labels are flipped (`label_noise`). `decided` is the test that may be looked at after every vote; it
    takes of each prompt the vote that came first, since raters of one prompt are not independent of each other.
    A section that nothing can be said about is None.

    Args:
        names: Of the two models.
        prompts: How many prompts the arena has.
        votes: Those that stand, in the order in which they came.
    """
    counted = first_votes(votes)
    raters = sorted({vote.rater for vote in votes})
    repeats = repeated_verdicts(votes)
    differing, twice = _flips(repeats)
    noise = label_noise(differing, twice)
    offer = smoothing_offer(noise, twice)
    return {
        "first": names[0],
        "second": names[1],
        "prompts": prompts,
        "prompts_rated": len({vote.entry for vote in counted}),
        "votes": len(counted),
        "choices": {**{name: 0 for name in SCORES}, **Counter(vote.verdict for vote in counted)},
        "skipped": sum(vote.choice == "skip" for vote in votes),
        "win_rate": win_rate(counted),
        "decided": _decision(counted),
        "raters": [_rater(name, votes, repeats) for name in raters],
        "agreement": agreement(counted),
        "consistency": _consistency(repeats),
        "label_noise": None if noise is None else {**_shares(noise), "pairs": twice, "differing": differing},
        "label_smoothing": {"setting": offer.setting, "why": offer.why},
    }


def win_rate(counted: Sequence[Vote]) -> dict[str, Any] | None:
    """Return the first model's win rate over prompts with its interval, for a number of votes fixed beforehand."""
    by_entry: dict[str, list[float]] = {}
    for vote in counted:
        if vote.verdict is not None:
            by_entry.setdefault(vote.entry, []).append(SCORES[vote.verdict])
    if not by_entry:
        return None
    values = [float(np.mean(scores)) for scores in by_entry.values()]
    if len(values) >= _ENOUGH_CLUSTERS and len(set(values)) > 1:
        found = cluster_bootstrap(values, list(by_entry))
    else:
        found = wilson(sum(values), len(values))
    return _shares(found)


def repeated_verdicts(votes: Iterable[Vote]) -> dict[str, list[tuple[Verdict, Verdict]]]:
    """Return by rater what was said of the same pair at first and, the other way round, again."""
    kept = [vote for vote in votes if vote.verdict is not None]
    before = {(vote.series, vote.rater, vote.entry): vote for vote in kept if not vote.repeat}
    found: dict[str, list[tuple[Verdict, Verdict]]] = {}
    for vote in kept:
        earlier = before.get((vote.series, vote.rater, vote.entry))
        if vote.repeat and earlier is not None and earlier.verdict and vote.verdict:
            found.setdefault(vote.rater, []).append((earlier.verdict, vote.verdict))
    return found


def agreement(counted: Sequence[Vote]) -> dict[str, Any] | None:
    """Return how often two raters say the same of a prompt (a tie and "both bad" are one verdict), with kappa."""
    by_rater: dict[str, dict[str, str]] = {}
    for vote in counted:
        by_rater.setdefault(vote.rater, {})[vote.entry] = _plain(vote.verdict)
    pairs = [
        (ours[entry], theirs[entry])
        for ours, theirs in combinations((by_rater[name] for name in sorted(by_rater)), 2)
        for entry in ours
        if entry in theirs
    ]
    if not pairs:
        return None
    same = wilson(sum(one == other for one, other in pairs), len(pairs))
    kappa = cohen_kappa([one for one, _ in pairs], [other for _, other in pairs])
    return {**_shares(same), "pairs": len(pairs), "kappa": None if kappa is None else _shares(kappa)}


def _decision(counted: Sequence[Vote]) -> dict[str, Any]:
    found = decide(scores_by_prompt(counted), alpha=ALPHA)
    better = None
    if found.at is not None:
        better = "first" if found.low + found.high > 1 else "second"
    return {
        "better": better,
        "at": found.at,
        "prompts": found.observations,
        "interval": [found.low, found.high],
        "evidence": found.evidence,
        "needed": 1 / ALPHA,
    }


def _rater(
    name: str, votes: Sequence[Vote], repeats: Mapping[str, list[tuple[Verdict, Verdict]]]
) -> dict[str, Any]:
    own = [vote for vote in votes if vote.rater == name]
    picks = Counter(vote.choice for vote in own)
    left, right = picks["left"], picks["right"]
    biased = left + right >= _FEWEST_DECIDED and mcnemar_exact(left, right) < _SURE
    return {
        "rater": name,
        "votes": len(first_votes(own)),
        "choices": {choice: picks[choice] for choice in CHOICES},
        "win_rate": win_rate(first_votes(own)),
        "consistency": _consistency({name: repeats.get(name, [])}),
        "side_bias": ("left" if left > right else "right") if biased else None,
    }


def _consistency(repeats: Mapping[str, list[tuple[Verdict, Verdict]]]) -> dict[str, Any] | None:
    """How often the same was said of a pair shown again; a tie and "both bad" are one verdict."""
    pairs = [pair for rows in repeats.values() for pair in rows]
    if not pairs:
        return None
    same = sum(_plain(one) == _plain(other) for one, other in pairs)
    return {**_shares(wilson(same, len(pairs))), "repeats": len(pairs), "same": same}


def _flips(repeats: Mapping[str, list[tuple[Verdict, Verdict]]]) -> tuple[int, int]:
    """Of pairs decided both times: how many for another model the second time, and how many there are."""
    decided = [
        (one, other) for rows in repeats.values() for one, other in rows if {one, other} <= {"first", "second"}
    ]
    return sum(one != other for one, other in decided), len(decided)


def _plain(verdict: Verdict | None) -> str:
    return "tie" if verdict in ("tie", "bad") else str(verdict)


def _shares(found: Interval) -> dict[str, Any]:
    return {"value": found.value, "interval": [found.low, found.high]}
