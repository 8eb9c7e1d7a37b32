"""Held-out responses with a label, desirable or not, as KTO is trained on."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from penchant.data.ledger import Ledger
from penchant.evaluation.labelled import labelled_figures
from penchant.evaluation.measures import Measure
from penchant.models.load import LoadedModel
from penchant.types import PreferencePair
from penchant.workflow.suites.scored_rows import Rows, scored_rows
from penchant.workflow.suites.suite import Judged, Outcome, Suite, Work, content_of

LABELLED_RESPONSES = "labelled responses"
_KINDS = {True: "desirable", False: "undesirable"}


def labelled_suite(responses: Sequence[PreferencePair], ledger: Ledger) -> Suite:
    """Return the suite: how probable responses of each kind are, and whether the reward tells the kinds apart.

    Args:
        responses: Each the chosen side of its row, with `desirable` as its label.
        ledger: Of their rows.
    """
    labels = {response.id: bool(response.desirable) for response in responses}
    clusters = {response.id: response.cluster or response.id for response in responses}

    def measure(loaded: LoadedModel, work: Work) -> Outcome:
        rows = copy.deepcopy(ledger)
        return scored_rows(loaded, responses, rows, work, LABELLED_RESPONSES, work.config.data)

    def judge(outcome: Outcome, reference: Outcome | None, work: Work) -> Judged:
        rows = Rows(outcome, reference, clusters)
        rows.warn_of_other_tokens(LABELLED_RESPONSES, reference, work)
        return _judged(rows, np.array([labels[name] for name in rows.ids]), work.config.objective.beta)

    return Suite(LABELLED_RESPONSES, content_of(responses, LABELLED_RESPONSES), measure, judge)


def _judged(rows: Rows, desirable: np.ndarray, beta: float) -> Judged:
    loss = -rows.all.chosen.double() / rows.all.chosen_tokens.double()
    tokens = dict(zip(rows.ids, rows.all.chosen_tokens.tolist(), strict=True))
    lines = _by_kind(rows, desirable, loss, "loss a token, {} responses, nats", ("lower", ""), tokens)
    if rows.reference is None:
        return Judged({"preference": lines})
    rewards = beta * (rows.all.chosen - rows.reference.chosen).double()
    sides = torch.from_numpy(np.where(desirable, 1.0, -1.0)) * rewards
    right = (torch.sign(sides) + 1) / 2
    lines.append(rows.measure("rewards with their label's sign", right, better="higher"))
    lines += _by_kind(rows, desirable, rewards, "implicit reward, {} responses", ("higher", "lower"))
    return Judged(
        {"preference": lines}, labelled_figures(rewards.numpy(), desirable, list(rows.clusters.values()))
    )


def _by_kind(
    rows: Rows,
    desirable: np.ndarray,
    values: torch.Tensor,
    name: str,
    better: tuple[str, str],
    weights: dict[str, float] | None = None,
) -> list[Measure]:
    """A line for each kind of response that is there."""
    found: list[Measure] = []
    for (label, kind), good in zip(_KINDS.items(), better, strict=True):
        inside = {one for one, own in zip(rows.ids, desirable, strict=True) if own == label}
        if inside:
            whole = rows.measure(name.format(kind), values, kind="mean", better=good, weights=weights or {})
            found.append(whole.part(inside))
    return found
