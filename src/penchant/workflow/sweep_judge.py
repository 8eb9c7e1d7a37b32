"""What each run of a sweep came to on held-back pairs: those won against the reference, and the way from it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from penchant.batching.pair_batch import pair_group
from penchant.config import Config
from penchant.errors import NotFiniteError
from penchant.evaluation.frontier import answer_divergence
from penchant.evaluation.preference import preference_figures
from penchant.generation.generate import Generated, generate
from penchant.models.load import LoadedModel, architecture_for, load_model
from penchant.models.memory import release_memory
from penchant.models.precision import choose_device, compute_in
from penchant.objective.content_address import pair_keys
from penchant.objective.logps import PairLogps
from penchant.objective.losses import margin
from penchant.objective.metrics import wins
from penchant.objective.pair_model import PairModel
from penchant.objective.score import score_groups, summed
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.validation import choose_pairs, chunks_by_length
from penchant.types import Sampling, TokenizedPair
from penchant.workflow.reference_scores import Layout, open_trunk_cache
from penchant.workflow.reporter import Reporter
from penchant.workflow.run_directory import FACTS
from penchant.workflow.setup import read_pairs, scoring_model, set_threads, tokenize
from penchant.workflow.stopping import Stopper, stoppable_progress
from penchant.workflow.token_memory import TokenMemory

_ROWS_AT_ONCE = 8  # answers made at a time: prompts of like length, so that little of what is read is padding
_ANSWERS_IN_MEMORY = 1 << 40  # bytes: outputs of the frozen layers for a few short answers, kept for both models


@dataclass(frozen=True)
class _Answers:
    """Answers that the policy gave, each as a pair without a rejected side, and what it thinks of them."""

    pairs: list[TokenizedPair]
    token_logps: list[Tensor]
    unfinished: float
    trunk: TrunkCache


class SweepJudge:
    """Judges runs on the same pairs and prompts, one model in memory at a time.

    A pair is won when its chosen response gained more log-probability over the reference than its rejected one
    (sums over the response), whatever loss was trained: a measure of its own, the same for every run.

    The distance is KL(policy || reference) over answers that the policy draws itself at temperature 1 from the
    whole vocabulary, in nats per answer: the sum over its tokens, as in the objective that DPO stands for
    (arXiv:2305.18290, equation 3). The same prompt gets the same random numbers in every run.

    What depends on the reference alone is computed for the first run, and outputs of frozen layers are taken from
    where training keeps them.

    Args:
        config: Says how the models are computed and how pairs become tokens, for all runs alike.
        data: Folder with the sets of pairs, see `penchant.workflow.sweep_data`.
        memory: What was tokenized before.
        prompts: Prompts to answer, at most.
        answer_tokens: Longest answer.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.
    """

    def __init__(
        self,
        config: Config,
        data: Path,
        memory: TokenMemory,
        *,
        prompts: int,
        answer_tokens: int,
        reporter: Reporter,
        stopper: Stopper,
    ) -> None:
        self._config, self._data, self._memory = config, data, memory
        self._prompts, self._answer_tokens = prompts, answer_tokens
        self._reporter, self._stopper = reporter, stopper
        self._device = choose_device(config.engine.device)
        self._reference: dict[tuple[str, int], PairLogps] = {}

    def judge(self, run: Path, split: str) -> dict[str, Any]:
        """Return what a finished run came to on a set of pairs, as plain data.

        `split`, `pairs`, `clusters` (one a pair), `wins` (one a pair: 1, 1/2 or 0), `margins` (one a pair, nats),
        `divergences` (nats) and `tokens` (one an answer), `unfinished` (share of answers that were cut off),
        `figures` (see `penchant.evaluation.preference`), `seconds`.

        Raises:
            NotFiniteError: The policy gives a log-probability that is no number.
        """
        started = time.perf_counter()
        set_threads(self._config.engine)
        frozen = json.loads((run / FACTS).read_text(encoding="utf-8"))["frozen_layers"]
        loaded = self._load(str(run / "model"))
        pairs = self._pairs(split, loaded)
        model = self._model(loaded, frozen)
        policy = self._score(model, pairs, f"{run.name}: {split} pairs")
        answers = self._answers(loaded, model, pairs, run.name)
        del loaded, model
        release_memory()
        reference, of_answers = self._of_reference(split, frozen, pairs, answers)
        margins = margin(policy, reference)
        divergences = [
            answer_divergence(ours.double().numpy(), theirs.double().numpy())
            for ours, theirs in zip(answers.token_logps, of_answers, strict=True)
        ]
        if not (margins.isfinite().all() and np.isfinite(divergences).all()):
            raise NotFiniteError("a log-probability of the trained model is no number", where=str(run))
        clusters = [pair.cluster or pair.id for pair in pairs]
        return {
            "split": split,
            "pairs": len(pairs),
            "clusters": clusters,
            "wins": wins(margins).tolist(),
            "margins": margins.tolist(),
            "divergences": divergences,
            "tokens": [len(pair.chosen_ids) for pair in answers.pairs],
            "unfinished": answers.unfinished,
            "figures": preference_figures(policy, reference, clusters, beta=1.0),
            "seconds": time.perf_counter() - started,
        }

    def _load(self, name: str) -> LoadedModel:
        self._stopper.check()
        return load_model(name, architecture=architecture_for(self._config.model, name), device=self._device)

    def _pairs(self, split: str, loaded: LoadedModel) -> Sequence[TokenizedPair]:
        pairs, ledger = read_pairs(self._data, split=split)
        return tokenize(pairs, ledger, loaded.chat, self._config.data, memory=self._memory)

    def _model(self, loaded: LoadedModel, frozen: int) -> PairModel:
        config = self._config
        return scoring_model(
            loaded, config.engine, max_tokens=config.data.max_tokens, trunk_layers=frozen, reporter=Reporter()
        )

    def _score(self, model: PairModel, pairs: Sequence[TokenizedPair], what: str) -> PairLogps:
        """Sums of all pairs, in passes that are the same for every run."""
        engine = self._config.engine
        chunks = chunks_by_length(pairs, engine.micro_batch_tokens)
        keys = pair_keys(pairs, chunks, model.precision)
        layout = Layout(pairs, (), pairs, None, [], chunks, [len(pairs)], keys)
        with (
            contextlib.closing(open_trunk_cache(engine, model, layout, self._reporter)) as cache,
            stoppable_progress(self._reporter, self._stopper, what, len(pairs)) as scored,
        ):
            groups = [pair_group(pair) for pair in pairs]
            return summed(
                score_groups(
                    model,
                    groups,
                    micro_batch_tokens=engine.micro_batch_tokens,
                    chunks=chunks,
                    trunk_cache=cache,
                    on_groups=scored,
                )
            )

    def _answers(
        self, loaded: LoadedModel, model: PairModel, pairs: Sequence[TokenizedPair], run: str
    ) -> _Answers:
        prompts = _distinct_prompts(pairs, self._prompts)
        vocabulary = loaded.model.config.get_text_config().vocab_size
        progress = stoppable_progress(self._reporter, self._stopper, f"{run}: answers", len(prompts))
        with torch.no_grad(), compute_in(model.precision, model.device), progress as answered:
            made = generate(
                loaded,
                prompts,
                max_new_tokens=self._answer_tokens,
                sampling=Sampling(temperature=1.0, top_k=vocabulary),
                batch_rows=min(_ROWS_AT_ONCE, self._config.eval.batch_rows),
                on_rows=answered,
                check_stop=self._stopper.check,
            )
        answers = [answer for [answer] in made]
        as_pairs = [_as_pair(prompt, one, loaded) for prompt, one in zip(prompts, answers, strict=True)]
        trunk = TrunkCache(_ANSWERS_IN_MEMORY)
        unfinished = sum(not answer.finished for answer in answers) / len(answers)
        return _Answers(as_pairs, self._score_answers(model, as_pairs, trunk), unfinished, trunk)

    def _score_answers(self, model: PairModel, pairs: Sequence[TokenizedPair], trunk: TrunkCache) -> list[Tensor]:
        groups, tokens = [pair_group(pair) for pair in pairs], self._config.engine.micro_batch_tokens
        return [row[0] for row in score_groups(model, groups, micro_batch_tokens=tokens, trunk_cache=trunk)]

    def _of_reference(
        self, split: str, frozen: int, pairs: Sequence[TokenizedPair], answers: _Answers
    ) -> tuple[PairLogps, list[Tensor]]:
        """What the reference thinks of the pairs, once a sweep, and of the answers."""
        loaded = self._load(self._config.model.reference or self._config.model.path)
        own = self._config.model.reference is not None  # its lower layers are not the policy's
        model = self._model(loaded, 0 if own else frozen)
        if (split, frozen) not in self._reference:
            self._reference[split, frozen] = self._score(model, pairs, f"Reference: {split} pairs")
        trunk = TrunkCache(0) if own else answers.trunk
        return self._reference[split, frozen], self._score_answers(model, answers.pairs, trunk)


def _distinct_prompts(pairs: Sequence[TokenizedPair], count: int) -> list[tuple[int, ...]]:
    first = {pair.prompt_ids: pair for pair in reversed(pairs)}
    return [pair.prompt_ids for pair in choose_pairs(list(first.values()), count)]


def _as_pair(prompt: tuple[int, ...], answer: Generated, loaded: LoadedModel) -> TokenizedPair:
    end = (loaded.stop_ids[0],) if answer.finished else ()
    return TokenizedPair("answer", prompt, answer.ids + end, ())
