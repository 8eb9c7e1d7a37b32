"""Short answers of the policy while it trains: how far they are from the reference's, how long, how repetitive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from penchant.batching.packing import split_by_tokens
from penchant.batching.pair_batch import pair_group
from penchant.evaluation.monitors import per_token_interval
from penchant.generation.generate import Generated, generate
from penchant.models.load import LoadedModel
from penchant.models.precision import compute_in
from penchant.objective.kept_weights import KeptWeights, scored_logps
from penchant.objective.pair_model import PairModel
from penchant.objective.trunk_cache import TrunkCache
from penchant.types import Sampling, TokenizedPair

_GRAM = 4


class DriftProbe:
    """Generates answers to the same prompts again and again, and compares them with the untrained policy.

    Answers are drawn from the policy as it is (temperature 1, nothing cut off), so the mean of
    log policy - log reference over them estimates KL(policy || reference) without bias. The same prompt gets the
    same random numbers each time. Beside the policy a copy of what is trained is held in memory.

    Args:
        loaded: The policy with its tokenizer, before the first step.
        model: The same policy as it is trained.
        prompts: Prompt ids.
        max_new_tokens: Longest answer.
        seed: Of the answers.
        micro_batch_tokens: Most tokens in one pass when answers are scored.
        check_stop: Called before every token; what it raises ends the measurement as if it had not begun.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model: PairModel,
        prompts: Sequence[tuple[int, ...]],
        *,
        max_new_tokens: int,
        seed: int,
        micro_batch_tokens: int,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_stop = check_stop
        self._loaded, self._model, self._prompts = loaded, model, prompts
        self._max_new_tokens, self._micro_batch_tokens = max_new_tokens, micro_batch_tokens
        self._sampling = Sampling(
            temperature=1.0, top_k=loaded.model.config.get_text_config().vocab_size, seed=seed
        )
        self._start = KeptWeights(model)

    def measure(self, step: int) -> dict[str, Any]:
        """Return the figures after `step` optimizer steps: means, and lists of one figure an answer.

        `kl_per_token` (nats, with `_interval`), `mean_tokens`, `repetition` and `unfinished` (shares), `seconds`;
        `log_ratios` (nats), `tokens` (end token included), `repetitions`, `answers` (text).
        """
        started = time.perf_counter()
        with compute_in(self._model.precision, self._model.device):
            made = generate(
                self._loaded,
                self._prompts,
                max_new_tokens=self._max_new_tokens,
                sampling=self._sampling,
                check_stop=self._check_stop,
            )
        answers = [answer for [answer] in made]
        pairs = [self._as_pair(place, answer) for place, answer in enumerate(answers)]
        log_ratios, tokens = self._log_ratios(pairs), [len(pair.chosen_ids) for pair in pairs]
        repetitions = [repeated_grams(answer.ids) for answer in answers]
        divergence, count = per_token_interval(log_ratios, tokens), len(answers)
        return {
            "step": step,
            "kl_per_token": divergence.value,
            "kl_per_token_interval": [divergence.low, divergence.high],
            "mean_tokens": sum(tokens) / count,
            "repetition": sum(repetitions) / count,
            "unfinished": sum(not answer.finished for answer in answers) / count,
            "seconds": time.perf_counter() - started,
            "log_ratios": log_ratios,
            "tokens": tokens,
            "repetitions": repetitions,
            "answers": [self._loaded.tokenizer.decode(list(answer.ids)) for answer in answers],
        }

    def _as_pair(self, place: int, answer: Generated) -> TokenizedPair:
        end = (self._loaded.stop_ids[0],) if answer.finished else ()
        return TokenizedPair(str(place), self._prompts[place], answer.ids + end, ())

    def _log_ratios(self, pairs: Sequence[TokenizedPair]) -> list[float]:
        """Log policy - log reference of each answer, nats; both read the frozen layers' outputs once."""
        groups = [pair_group(pair) for pair in pairs]
        chunks = split_by_tokens([group.num_packed_tokens for group in groups], self._micro_batch_tokens)
        found: list[float] = []
        for chunk in chunks:
            self._check_stop()
            cache = TrunkCache(1 << 40)
            parts = [(chunk, self._model.collate([groups[place] for place in chunk]))]
            policy, reference = scored_logps(self._model, parts, cache), self._start.logps(parts, cache)
            found += (policy.chosen - reference.chosen).tolist()
        return found


def repeated_grams(ids: Sequence[int]) -> float:
    """Return the share of an answer's four-grams that repeat an earlier one, 0 for fewer than two.

    seq-rep-4 of Welleck et al. 2020 (arXiv:1908.04319).
    """
    grams = Counter(tuple(ids[start : start + _GRAM]) for start in range(len(ids) - _GRAM + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total > 1 else 0.0
