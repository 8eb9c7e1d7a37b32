"""Rows scored by log-probability under each model: what suites of pairs, examples and labelled responses share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from penchant.config import DataConfig
from penchant.data.ledger import Ledger
from penchant.evaluation.measures import Measure
from penchant.evaluation.pair_scores import pair_content
from penchant.models.load import LoadedModel
from penchant.objective.logps import PairLogps
from penchant.objective.score import score_pairs
from penchant.types import PreferencePair
from penchant.workflow.setup import describe_ledger, scoring_model, tokenize
from penchant.workflow.stopping import stoppable_progress
from penchant.workflow.suites.suite import Outcome, Work

_COLUMNS = ("chosen", "rejected", "chosen_tokens", "rejected_tokens")


def scored_rows(
    loaded: LoadedModel,
    pairs: Sequence[PreferencePair],
    ledger: Ledger,
    work: Work,
    what: str,
    data: DataConfig,
) -> Outcome:
    """Return a model's outcome: ids, digests of the tokens, log-probabilities and numbers of scored tokens.

    Args:
        loaded: The model.
        pairs: What is scored.
        ledger: Of their rows; what tokenizing drops is noted in it.
        work: The circumstances.
        what: The rows are called in progress and notes.
        data: How they are tokenized.
    """
    config = work.config
    rows = tokenize(pairs, ledger, loaded.chat, data)
    work.note(f"Held-out {what}: {describe_ledger(ledger)}")
    model = scoring_model(
        loaded, config.engine, max_tokens=data.max_tokens, trunk_layers=0, reporter=work.reporter
    )
    label = f"Held-out {what}, {work.who}"
    with stoppable_progress(work.reporter, work.stopper, label, len(rows)) as scored:
        logps = score_pairs(model, rows, micro_batch_tokens=config.engine.micro_batch_tokens, on_pairs=scored)
    return {
        "ids": [row.id for row in rows],
        "contents": [pair_content(row) for row in rows],
        **{name: getattr(logps, name).tolist() for name in _COLUMNS},
    }


class Rows:
    """The log-probabilities of one model, and where there is a reference those of both on the rows that both have.

    Rewards compare two models on the same tokens, so without these there are none.
    """

    def __init__(self, outcome: Outcome, reference: Outcome | None, clusters: Mapping[str, str]) -> None:
        self.ids: list[str] = outcome["ids"]
        self.contents: list[str] = outcome["contents"]
        self.all = _logps(outcome, self.ids)
        comparable = reference is not None and reference["contents"] == outcome["contents"]
        self.reference = _logps(reference, self.ids) if reference is not None and comparable else None
        self.clusters = {name: clusters[name] for name in self.ids}

    def warn_of_other_tokens(self, what: str, reference: Outcome | None, work: Work) -> None:
        """Say where the reference was scored on other tokens."""
        if reference is not None and self.reference is None:
            work.reporter.warn(
                f"{what} of {work.who} are not those of the reference, token by token (another format, tokenizer "
                "or data.max_tokens), so their log-probabilities are not compared"
            )

    def measure(self, name: str, values: torch.Tensor, **options: Any) -> Measure:
        """Return one line: a number for each row, in the order of `ids`."""
        rows = dict(zip(self.ids, values.double().tolist(), strict=True))
        return Measure(name, rows, clusters=self.clusters, **options)


def _logps(outcome: Outcome, ids: Sequence[str]) -> PairLogps:
    place = {name: at for at, name in enumerate(outcome["ids"])}
    order = [place[name] for name in ids]
    return PairLogps(*(torch.tensor([outcome[name][at] for at in order]) for name in _COLUMNS))
