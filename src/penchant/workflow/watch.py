"""What watches a run: a log of every pair, short answers now and then, warnings as soon as there is cause."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.evaluation.drift import DriftProbe
from penchant.evaluation.monitors import (
    Finding,
    displacement,
    drift,
    gradient_spike,
    length_only,
    no_improvement,
)
from penchant.models.load import LoadedModel
from penchant.objective.pair_model import PairModel
from penchant.processes import first_one_first, is_first
from penchant.training.telemetry import MetricsLog
from penchant.training.validation import choose_pairs
from penchant.types import TokenizedPair
from penchant.workflow.reference_scores import Layout
from penchant.workflow.reporter import Reporter

PAIRS_FILE, GENERATIONS_FILE = "pairs.jsonl", "generations.jsonl"

_CHECKS = 40  # looks at the figures in a run
_SHOWN_PAIRS, _SHOWN_TOKENS = 10, 80
_SHOWN_SPIKES, _SHOWN_OF_A_STEP = 5, 3
_CANDIDATES = 4096  # pairs among which prompts to answer are chosen


class Watch:
    """Hears of every step of a run and keeps what its figures say against it.

    Args:
        config: The run's.
        pairs: Training pairs.
        out: The run directory; `pairs.jsonl` and `generations.jsonl` are kept there.
        reporter: Hears warnings, each when it first applies.
        total_steps: Of the run.
        probe: Generates short answers, with `monitor.generate_every`.
    """

    def __init__(
        self,
        config: Config,
        pairs: Sequence[TokenizedPair],
        out: Path,
        reporter: Reporter,
        *,
        total_steps: int,
        probe: DriftProbe | None = None,
    ) -> None:
        self._config, self._pairs, self._out, self._reporter = config, pairs, out, reporter
        self._total_steps, self._probe = total_steps, probe
        self._steps: list[Mapping[str, Any]] = []
        self._generations: list[Mapping[str, Any]] = []
        self._warned: set[str] = set()
        self._spikes, self._worst_of, self._worst = 0, 0, []  # told of; of which step, the pairs

    def start(self, start_step: int) -> None:
        """Take in what the run directory holds up to a step; before the first one answer the prompts once."""
        with first_one_first():
            self._open_logs(start_step)
        if self._probe is not None and not self._generations:
            self._answer(0)

    def _open_logs(self, start_step: int) -> None:
        if start_step == 0 and is_first():
            for name in (PAIRS_FILE, GENERATIONS_FILE):
                (self._out / name).unlink(missing_ok=True)
        self._pair_log = MetricsLog(self._out / PAIRS_FILE, keep_steps=start_step)
        self._generation_log = MetricsLog(self._out / GENERATIONS_FILE, keep_steps=start_step)
        self._steps = [line for line in read_lines(self._out / "metrics.jsonl") if line["step"] <= start_step]
        self._generations = read_lines(self._generation_log.path)
        if self._probe is None:
            self._generation_log.path.unlink(missing_ok=True)

    def on_pairs(self, step: int, order: Sequence[int], own: Mapping[str, list[float]]) -> None:
        """Keep the pairs of a step with their own figures, where there is a reference to compare with."""
        by_loss = sorted(zip(own["loss"], order, strict=True), reverse=True)
        self._worst_of, self._worst = step, [self._pairs[index].id for _, index in by_loss[:_SHOWN_OF_A_STEP]]
        if "chosen_log_ratio" not in own:
            return
        pairs = [self._pairs[index] for index in order]
        tokens = [pair.num_scored for pair in pairs]
        self._pair_log.append(
            {
                "step": step,
                "id": [pair.id for pair in pairs],
                **{name: [float(f"{value:.6g}") for value in values] for name, values in own.items()},
                "chosen_tokens": [chosen for chosen, _ in tokens],
                "rejected_tokens": [rejected for _, rejected in tokens],
            }
        )

    def after_step(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Look at the run after a step, if it is time; return whether it is to end here.

        A resumed run asks about the step that it resumes from too, whose answers may have been cut short.
        """
        if not self._steps or self._steps[-1]["step"] < step:
            self._steps.append(metrics)
        self._look_for_a_spike()
        every, last = self._config.monitor.generate_every, step == self._total_steps
        answered = bool(self._generations) and self._generations[-1]["step"] == step
        if self._probe is not None and every is not None and (step % every == 0 or last) and not answered:
            self._answer(step)
        if last or step % max(1, self._total_steps // _CHECKS) or step < self._total_steps / 4:
            return False
        findings = self._seen(late=step >= self._total_steps / 2)
        for finding in findings:
            if finding.name not in self._warned:
                self._warned.add(finding.name)
                self._reporter.warn(f"step {step}: {finding.summary}")
        return any(self._is_to_end(finding) for finding in findings)

    def facts(self, loaded: LoadedModel) -> dict[str, Any]:
        """Return what there is to say at the end of the run: findings, and the pairs that fell the most."""
        lines = read_lines(self._out / PAIRS_FILE)
        by_length = None if self._config.objective.loss == "kto" else length_only(self._steps, lines)
        found = [*self._seen(late=True), *([by_length] if by_length else [])]
        for finding in found:
            helps = "; ".join(finding.remedies)
            self._reporter.warn(f"{finding.summary}. What usually helps: {helps}.")
        return {
            "findings": [asdict(finding) for finding in found],
            "worst_pairs": self._worst_pairs(lines, loaded),
        }

    def _seen(self, *, late: bool) -> list[Finding]:
        # before half of the run a policy that is still warming up would be called one that learns nothing, and
        # against a reference that follows it no policy seems to get anywhere
        moves = self._config.objective.reference_every is not None
        flat = no_improvement(self._steps) if late and not moves else None
        found = (displacement(self._steps), drift(self._generations), flat)
        return [finding for finding in found if finding is not None]

    def _is_to_end(self, finding: Finding) -> bool:
        limit = self._config.monitor.displacement_stop
        if limit is None or finding.name != "displacement" or finding.figures["share_interval"][0] <= limit:
            return False
        self._reporter.warn(
            f"the run ends here: surely more than {limit:.0%} of chosen responses lie below the reference "
            "(monitor.displacement_stop)"
        )
        return True

    def _look_for_a_spike(self) -> None:
        spike = gradient_spike(self._steps)
        if spike is None or self._spikes == _SHOWN_SPIKES:
            return
        self._spikes += 1
        silence = "; further ones are not reported" if self._spikes == _SHOWN_SPIKES else ""
        worst = f"; the pairs of the step, those with the largest loss first: {', '.join(self._worst)}"
        pairs = worst if self._worst_of == spike.step else ""
        self._reporter.warn(f"step {spike.step}: {spike.summary}{pairs}{silence}")

    def _answer(self, step: int) -> None:
        assert self._probe is not None
        line = self._probe.measure(step)
        self._generation_log.append(line)
        self._generations.append(line)
        self._reporter.note(
            f"Step {step}, {len(line['tokens'])} answers: KL {line['kl_per_token']:.3f} nats per token, "
            f"{line['mean_tokens']:.0f} tokens, {line['repetition']:.0%} repetition"
        )

    def _worst_pairs(self, lines: Sequence[Mapping[str, Any]], loaded: LoadedModel) -> list[dict[str, Any]]:
        """The pairs whose chosen response had lost most when they were last seen."""
        newest: dict[str, dict[str, Any]] = {}
        for line in lines:
            for place, name in enumerate(line["id"]):
                figures = ("chosen_log_ratio", "rejected_log_ratio", "chosen_tokens", "rejected_tokens")
                newest[name] = {"id": name, "step": line["step"], **{key: line[key][place] for key in figures}}
        fallen = (pair for pair in newest.values() if pair["chosen_log_ratio"] < 0)
        worst = {pair["id"]: pair for pair in nsmallest(2 * _SHOWN_PAIRS, fallen, key=_chosen_log_ratio)}
        # of KTO's responses the undesirable ones ought to fall
        texts = {pair.id: pair for pair in self._pairs if pair.id in worst and pair.desirable is not False}
        shown = [{**row, **_as_text(texts[name], loaded)} for name, row in worst.items() if name in texts]
        return shown[:_SHOWN_PAIRS]


def _chosen_log_ratio(row: Mapping[str, Any]) -> float:
    return row["chosen_log_ratio"]


def _as_text(pair: TokenizedPair, loaded: LoadedModel) -> dict[str, str]:
    decode = loaded.tokenizer.decode
    return {
        "prompt": decode(list(pair.prompt_ids[-_SHOWN_TOKENS:])),
        "chosen": decode(list(pair.chosen_ids[:_SHOWN_TOKENS])),
        "rejected": decode(list(pair.rejected_ids[:_SHOWN_TOKENS])),
    }


def make_watch(
    config: Config,
    loaded: LoadedModel,
    model: PairModel,
    layout: Layout,
    out: Path,
    reporter: Reporter,
    *,
    total_steps: int,
    check_stop: Callable[[], None] = lambda: None,
) -> Watch:
    """Return what watches a run, the policy being as it is before the first step.

    The prompts to be answered are held-out ones where there are any, else training prompts; always the same. What
    `check_stop` raises ends the answering.
    """
    probe = None
    if config.monitor.generate_every is not None:
        asked = layout.held_out_pairs or layout.training_pairs
        by_prompt = {pair.prompt_ids: pair for pair in islice(asked, _CANDIDATES)}
        chosen = choose_pairs(list(by_prompt.values()), config.monitor.prompts)
        probe = DriftProbe(
            loaded,
            model,
            [pair.prompt_ids for pair in chosen],
            max_new_tokens=config.monitor.max_new_tokens,
            seed=config.train.seed,
            micro_batch_tokens=config.engine.micro_batch_tokens,
            check_stop=check_stop,
        )
    return Watch(config, layout.training_pairs, out, reporter, total_steps=total_steps, probe=probe)


def read_lines(path: Path) -> list[Mapping[str, Any]]:
    """Return the whole lines of a log that `MetricsLog` wrote; [] when there is none.

    The last line may be torn, where the process was killed; it counts as not there.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
