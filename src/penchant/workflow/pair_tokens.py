"""Token log-probabilities of single training pairs of a run, under what it made and under what it began from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from penchant.batching.pair_batch import pair_group
from penchant.config import Config
from penchant.errors import DataError
from penchant.evaluation.run_record import RunRecord
from penchant.evaluation.token_scores import ScoredPair, ScoredToken
from penchant.models.bundled import cache_directory
from penchant.models.digest import weights_digest
from penchant.models.load import LoadedModel, architecture_for, load_model
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device, choose_precision
from penchant.objective.content_address import pair_keys
from penchant.objective.score import score_groups
from penchant.objective.shards import read_shard
from penchant.types import TokenizedPair
from penchant.workflow.reporter import Reporter
from penchant.workflow.run_record import read_run
from penchant.workflow.setup import fingerprint, scoring_model, set_threads
from penchant.workflow.sft import training_pairs
from penchant.workflow.stopping import Stopper, stoppable_progress
from penchant.workflow.train import training_tokens

_STORE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class PairTokens:
    """A training pair with what its tokens got.

    Attributes:
        pair: As ids.
        policy: Log-probabilities of the scored tokens, nats, fp64: of the chosen response, of the rejected one
            where there is one.
        reference: Likewise.
    """

    pair: TokenizedPair
    policy: Sequence[Tensor]
    reference: Sequence[Tensor]


def pair_tokens(
    record: RunRecord, names: Sequence[str], reporter: Reporter, stopper: Stopper
) -> tuple[list[PairTokens], Callable[[list[int]], str]]:
    """Return what the tokens of some training pairs got from the run's model and its reference, and the decoder.

    The reference's come from the run's store where they are there and do not depend on company (fp32), else it
    scores them.

    Args:
        record: The run.
        names: Ids of training pairs.
        reporter: Hears progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        DataError: Its model, data or reference is not there any more, or not as it was.
        PenchantError: See `penchant.models.load.load_model`.
    """
    config, place = record.config, record.circumstances.get("data")
    if not (record.run / "model").is_dir():
        raise DataError("there is no model/ in the run directory")
    if not isinstance(place, str):
        raise DataError("the run does not say where its data was")
    set_threads(config.engine)
    device = choose_device(config.engine.device)
    policy = load_model(str(record.run / "model"), device=device)
    rows, ledger = training_pairs(config, Path(place), limit=record.circumstances.get("limit"))
    tokenized = training_tokens(config, rows, ledger, policy.chat, stopper=stopper)
    if fingerprint(tokenized) != record.circumstances.get("data_fingerprint"):
        raise DataError(f"{place} is not what was trained on: its fingerprint differs")
    wanted = set(names)
    by_id = {pair.id: pair for pair in tokenized if pair.id in wanted}
    missing = sorted(wanted - by_id.keys())
    if missing:
        raise DataError(f"{place} holds no pair {missing[0]}")
    pairs = [by_id[name] for name in names]
    decode = policy.tokenizer.decode
    ours = _score(policy, pairs, config, reporter, stopper, "policy")
    del policy
    release_memory()
    theirs = _stored(record, pairs, device) or _score_reference(record, pairs, device, reporter, stopper)
    return [PairTokens(*three) for three in zip(pairs, ours, theirs, strict=True)], decode


def _score(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: Config,
    reporter: Reporter,
    stopper: Stopper,
    who: str,
) -> list[list[Tensor]]:
    model = scoring_model(
        loaded, config.engine, max_tokens=config.data.max_tokens, trunk_layers=0, reporter=Reporter()
    )
    with stoppable_progress(reporter, stopper, f"Scoring tokens, {who}", len(pairs)) as scored:
        scores = score_groups(
            model,
            [pair_group(pair) for pair in pairs],
            micro_batch_tokens=config.engine.micro_batch_tokens,
            on_groups=scored,
        )
    return [[response.double() for response in row] for row in scores]


def _score_reference(
    record: RunRecord, pairs: Sequence[TokenizedPair], device: str, reporter: Reporter, stopper: Stopper
) -> list[list[Tensor]]:
    config = record.config
    name = config.model.reference or config.model.path
    loaded = load_model(name, architecture=architecture_for(config.model, name), device=device)
    weights = record.circumstances.get("weights")
    known = weights.get("reference") if isinstance(weights, dict) else None
    if known is not None and weights_digest(loaded.model) != known:
        raise DataError(f"the model at {name} is not the run's reference any more: its weights differ")
    return _score(loaded, pairs, config, reporter, stopper, "reference")


def _stored(record: RunRecord, pairs: Sequence[TokenizedPair], device: str) -> list[list[Tensor]] | None:
    """The reference's scores from its store; None when one of them is not there.

    Of bf16 they are not taken: there a score depends on what shared its pass, and policy and reference are to be
    scored in the same company.
    """
    path = record.run / "reference" / "store.json"
    if choose_precision(record.config.engine.precision, device) != "fp32" or not path.is_file():
        return None
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("store")
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(name, str) or not _STORE.fullmatch(name):
        return None
    keys = pair_keys(pairs, [range(len(pairs))], "fp32")
    found: dict[bytes, list[Tensor]] = {}
    for file in sorted((cache_directory() / "reference" / name).glob("*.safetensors")):
        found = {**_shard_scores(file, name, set(keys.values())), **found}
        if len(found) == len(set(keys.values())):
            return [found[keys[index]] for index in range(len(pairs))]
    return None


def _shard_scores(file: Path, store: str, keys: set[bytes]) -> dict[bytes, list[Tensor]]:
    try:
        shard = read_shard(file, store)
    except (OSError, ValueError):
        return {}  # the next run says so, and makes it again
    ends = shard.lengths.sum(1).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    found = {}
    for row, key in enumerate(map(bytes, shard.keys.numpy())):
        if key in keys:
            chosen, rejected = shard.lengths[row].tolist()
            both = shard.token_logps[starts[row] : starts[row] + chosen + rejected].double()
            found[key] = [*both.split([chosen, rejected])][: 2 if rejected else 1]
    return found


def scored_pair(run: Path, name: str, reporter: Reporter, stopper: Stopper | None = None) -> ScoredPair:
    """Return one training pair of a run token by token, under its model and its reference.

    Args:
        run: The run directory, with a `model/`.
        name: The pair's id.
        reporter: Hears what is being done.
        stopper: Asked at every safe point whether to stop.

    Raises:
        PenchantError: See `pair_tokens`, and `penchant.workflow.run_record.read_run`.
    """
    reporter.note("Reading the run, loading its model, tokenizing its data")
    (found,), decode = pair_tokens(read_run(run), [name], reporter, stopper or Stopper())
    pair = found.pair
    sides = [(pair.chosen_ids, pair.chosen_scored), (pair.rejected_ids, pair.rejected_scored)]
    told = []
    for (ids, scored), policy, reference in zip(sides, found.policy, found.reference, strict=False):
        kept = [token for place, token in enumerate(ids) if scored is None or scored[place]]
        rows = zip(kept, policy.tolist(), reference.tolist(), strict=True)
        told.append(tuple(ScoredToken(decode([token]), ours, theirs) for token, ours, theirs in rows))
    return ScoredPair(told[0], told[1] if len(told) > 1 else ())
