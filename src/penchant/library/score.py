"""`penchant.score`: log-probabilities of chosen and rejected responses under a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from penchant.data.exclusions import leave_out
from penchant.data.ledger import Ledger
from penchant.library.models import AnyModel, borrowed, is_named
from penchant.library.rows import Data, as_file
from penchant.library.settings import Settings, config_of
from penchant.models.load import architecture_for, load_model
from penchant.models.precision import choose_device
from penchant.objective.logps import PairLogps
from penchant.objective.score import score_pairs
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import read_pairs, require_chat_format, scoring_model, tokenize
from penchant.workflow.stopping import Stopper, stoppable_progress


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of pairs under a model.

    Attributes:
        ids: Of the pairs, in the order of the rows that were kept.
        logps: Sums over the response in nats, and scored tokens, one of each a pair; `logps.mean()` gives means a
            token. `penchant.losses` takes two of them, of policy and reference.
        ledger: What became of every row: kept, cut to fit, or dropped, with the reason.
    """

    ids: list[str]
    logps: PairLogps
    ledger: Ledger

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[str, float, float]]:
        """Yield id, chosen and rejected log-probability of each pair, nats."""
        yield from zip(self.ids, self.logps.chosen.tolist(), self.logps.rejected.tolist(), strict=True)


def score(
    model: AnyModel,
    data: Data,
    *,
    tokenizer: Any = None,
    config: Settings = None,
    limit: int | None = None,
    reporter: Reporter | None = None,
) -> Scores:
    """Return the log-probabilities of pairs under a model, as `penchant score` writes them.

    Args:
        model: A directory, a Hub id, "bundled"; or a loaded transformers model, which is scored where it is and
            not changed.
        data: A file or folder of pairs, or rows: a `datasets.Dataset`, a list of dictionaries.
        tokenizer: Of a loaded model.
        config: The sections `data` (format, length, rows left out by hand) and `engine` are used.
        limit: Only the first rows.
        reporter: Hears notes and progress; by default nobody does.

    Raises:
        DataError: The rows cannot be read as pairs, or none is left.
        ModelError: The model cannot be used.
        UsageError: The configuration is not valid, or a loaded model comes without its tokenizer.
    """
    settings, reporter, stopper = config_of(config), reporter or Reporter(), Stopper()
    named = is_named(model, tokenizer)
    with as_file(data) as path:
        pairs, ledger = read_pairs(path, split="train", limit=limit)
    if settings.data.exclude is not None:
        pairs = leave_out(pairs, ledger, Path(settings.data.exclude), every=limit is None)
    if named:
        architecture = architecture_for(settings.model, str(model))
        loaded = load_model(str(model), architecture=architecture, device=choose_device(settings.engine.device))
    else:
        assert isinstance(model, PreTrainedModel)  # is_named says so
        loaded = borrowed(model, tokenizer)
    require_chat_format(loaded.chat, settings)
    tokenized = tokenize(pairs, ledger, loaded.chat, settings.data, reporter=reporter, stopper=stopper)
    scorer = scoring_model(
        loaded, settings.engine, max_tokens=settings.data.max_tokens, trunk_layers=0, reporter=reporter
    )
    with stoppable_progress(reporter, stopper, "Scoring", len(tokenized)) as scored:
        tokens = settings.engine.micro_batch_tokens
        logps = score_pairs(scorer, tokenized, micro_batch_tokens=tokens, on_pairs=scored)
    return Scores([pair.id for pair in tokenized], logps, ledger)
