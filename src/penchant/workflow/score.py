"""`penchant score`: the log-probabilities of pairs under a model, as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.data.atomic import disk_errors, write_text
from penchant.data.exclusions import leave_out
from penchant.models.load import architecture_for, load_model
from penchant.models.precision import choose_device
from penchant.objective.score import score_pairs
from penchant.processes import is_first
from penchant.workflow.reporter import Reporter
from penchant.workflow.setup import describe_ledger, read_pairs, scoring_model, set_threads, tokenize
from penchant.workflow.stopping import Stopper, stoppable_progress


def score_file(
    config: Config,
    data: Path,
    out: Path,
    *,
    ids: bool = False,
    limit: int | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> int:
    """Write one JSON line a pair to `out`; return how many.

    A line holds `id`, `chosen_logps` and `rejected_logps` (sums over the response, nats), `chosen_tokens` and
    `rejected_tokens`; with `ids` also `prompt_ids`, `chosen_ids` and `rejected_ids`, exactly as scored. Rows that
    `data.exclude` lists have no line.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    set_threads(config.engine)
    pairs, ledger = read_pairs(data, split=None, limit=limit)
    if config.data.exclude is not None:
        pairs = leave_out(pairs, ledger, Path(config.data.exclude), every=limit is None)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    path, device = config.model.path, choose_device(config.engine.device)
    loaded = load_model(path, architecture=architecture_for(config.model, path), device=device)
    tokenized = tokenize(pairs, ledger, loaded.chat, config.data, reporter=reporter, stopper=stopper)
    reporter.note(describe_ledger(ledger))
    model = scoring_model(
        loaded, config.engine, max_tokens=config.data.max_tokens, trunk_layers=0, reporter=reporter
    )
    with stoppable_progress(reporter, stopper, "Scoring", len(tokenized)) as scored:
        logps = score_pairs(model, tokenized, micro_batch_tokens=config.engine.micro_batch_tokens, on_pairs=scored)
    lines = []
    for index, pair in enumerate(tokenized):
        line: dict[str, Any] = {
            "id": pair.id,
            "chosen_logps": float(logps.chosen[index]),
            "rejected_logps": float(logps.rejected[index]),
            "chosen_tokens": pair.num_scored[0],
            "rejected_tokens": pair.num_scored[1],
        }
        if ids:
            line |= {
                "prompt_ids": pair.prompt_ids,
                "chosen_ids": pair.chosen_ids,
                "rejected_ids": pair.rejected_ids,
                **({"chosen_scored": pair.chosen_scored} if pair.chosen_scored is not None else {}),
                **({"rejected_scored": pair.rejected_scored} if pair.rejected_scored is not None else {}),
            }
        lines.append(json.dumps(line) + "\n")
    if is_first():
        write_text(out, "".join(lines))
    return len(lines)
