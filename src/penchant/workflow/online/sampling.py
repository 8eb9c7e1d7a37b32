"""The current policy's answers to a round's prompts, block by block on disk, so that a kill loses one block."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from penchant.config import Config
from penchant.data.atomic import disk_errors, write_text
from penchant.data.splits import rank
from penchant.generation.answers import answer_prompts
from penchant.models.load import LoadedModel, architecture_for, load_model
from penchant.models.precision import choose_device, choose_precision
from penchant.types import Answer, Prompt, Sampling
from penchant.workflow.online.settings import OnlineSettings
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper, stoppable_progress

SAMPLES_FILE = "samples.jsonl"
_PARTS = "sampling"
_BLOCK_PROMPTS = 32
_ROWS_AT_ONCE = 256
_SEED_BITS = 40


def load_policy(path: str, config: Config) -> LoadedModel:
    """Return a model ready to generate: on the configured device, in the precision that it is trained in."""
    device = choose_device(config.engine.device)
    loaded = load_model(path, architecture=architecture_for(config.model, path), device=device)
    if choose_precision(config.engine.precision, device) == "bf16":
        loaded.model.bfloat16()
    return loaded


def generated_tokens(answer: Answer) -> int:
    """Return how many tokens the model chose for an answer, the end token included."""
    return answer.tokens + answer.finished


def sample_round(
    policy: str,
    prompts: Sequence[Prompt],
    config: Config,
    settings: OnlineSettings,
    number: int,
    folder: Path,
    reporter: Reporter,
    stopper: Stopper,
) -> list[dict[str, Any]]:
    """Write `samples.jsonl` of a round, if it is not there, and return its rows: each prompt's `id` and `answers`.

    With a token budget prompts are taken in their order until it is reached. An answer depends on the seed, the
    round, its prompt and its place among that prompt's answers alone, so what is kept is what would be sampled if
    it were known where the budget ends.

    Args:
        policy: Model that answers.
        prompts: As many as the round may take, in its order.
        config: The recipe's.
        settings: The loop's.
        number: Of the round, from 1.
        folder: Of the round.
        reporter: Hears progress.
        stopper: Asked before every token whether to stop.
    """
    file = folder / SAMPLES_FILE
    if not file.is_file():
        rows: list[dict[str, Any]] = []
        for block in _blocks(policy, prompts, config, settings, number, folder / _PARTS, reporter, stopper):
            rows += block
            if settings.tokens_per_round is not None and _tokens(rows) >= settings.tokens_per_round:
                break
        write_text(file, as_lines(_within(rows, settings.tokens_per_round)))
    with disk_errors(folder):
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
    return read_lines(file)


def answers_of(row: dict[str, Any]) -> list[Answer]:
    """Return the answers of a row of `samples.jsonl`."""
    return [Answer(**answer) for answer in row["answers"]]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that a loop wrote whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def as_lines(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _blocks(
    policy: str,
    prompts: Sequence[Prompt],
    config: Config,
    settings: OnlineSettings,
    number: int,
    parts: Path,
    reporter: Reporter,
    stopper: Stopper,
) -> Iterator[list[dict[str, Any]]]:
    """Blocks of rows in order, each read from its file or made and written; the model is loaded if needed."""
    with disk_errors(parts):
        parts.mkdir(parents=True, exist_ok=True)
    loaded: LoadedModel | None = None
    sampling = Sampling(
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        seed=rank(f"round {number}", settings.seed) >> (64 - _SEED_BITS),
    )
    total = len(prompts) * settings.samples if settings.tokens_per_round is None else 0
    with stoppable_progress(reporter, stopper, f"Round {number}: sampling answers", total) as answered:
        for place, start in enumerate(range(0, len(prompts), _BLOCK_PROMPTS)):
            block, part = prompts[start : start + _BLOCK_PROMPTS], parts / f"{place:06d}.jsonl"
            if not part.is_file():
                loaded = loaded or load_policy(policy, config)
                made = answer_prompts(
                    loaded,
                    block,
                    max_new_tokens=settings.max_new_tokens,
                    samples=settings.samples,
                    sampling=sampling,
                    batch_rows=_ROWS_AT_ONCE,
                    format=config.data.format,
                    on_answers=answered,
                    check_stop=stopper.check,
                )
                rows = [
                    {"id": prompt.id, "answers": [vars(answer) for answer in row]}
                    for prompt, row in zip(block, made, strict=True)
                ]
                write_text(part, as_lines(rows))
            yield read_lines(part)


def _tokens(rows: Sequence[dict[str, Any]]) -> int:
    return sum(generated_tokens(answer) for row in rows for answer in answers_of(row))


def _within(rows: list[dict[str, Any]], budget: int | None) -> list[dict[str, Any]]:
    """The first rows whose answers together reach the budget; all of them without one."""
    if budget is None:
        return rows
    spent = 0
    for count, row in enumerate(rows, start=1):
        spent += _tokens([row])
        if spent >= budget:
            return rows[:count]
    return rows


def greedy_answers(
    model: str, prompts: Sequence[Prompt], config: Config, what: str, reporter: Reporter, stopper: Stopper
) -> list[Answer]:
    """Return a model's greedy answer to each prompt, at most `eval.max_new_tokens` long."""
    loaded = load_policy(model, config)
    with stoppable_progress(reporter, stopper, what, len(prompts)) as answered:
        made = answer_prompts(
            loaded,
            prompts,
            max_new_tokens=config.eval.max_new_tokens,
            batch_rows=config.eval.batch_rows,
            format=config.data.format,
            on_answers=answered,
            check_stop=stopper.check,
        )
    return [row[0] for row in made]
