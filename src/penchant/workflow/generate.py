"""`penchant generate`: ask a model something, or all prompts of a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from penchant.data.prompt_sets import read_prompts
from penchant.endpoint.client import Endpoint
from penchant.generation.answers import answer_prompts, check_prompts, count_answers
from penchant.generation.remote import remote_answers
from penchant.generation.sampling import GREEDY
from penchant.processes import done_by_first, is_first
from penchant.types import Answer, Prompt, Sampling, Turn
from penchant.workflow.answer_file import AnswerFile, open_answers, rows_of
from penchant.workflow.reporter import Reporter
from penchant.workflow.speaker import Speaker
from penchant.workflow.stopping import Stopper, stoppable_progress

_BATCHES_A_WINDOW = 4  # answered together, the like in length side by side, before they are written


@dataclass(frozen=True)
class Wanted:
    """What is wanted of whoever answers.

    Attributes:
        max_new_tokens: Longest answer.
        samples: Answers a prompt.
        sampling: How tokens are chosen.
        stop: Strings that end an answer.
        batch_rows: Answers made at a time.
    """

    max_new_tokens: int = 256
    samples: int = 1
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()
    batch_rows: int = 64

    def identity(self) -> dict[str, Any]:
        """Return what the answers depend on; in bf16 that is the batch, too."""
        return {
            **asdict(self.sampling),
            "max_new_tokens": self.max_new_tokens,
            "samples": self.samples,
            "stop": list(self.stop),
            "batch_rows": self.batch_rows,
        }


def ask(
    speaker: Speaker | Endpoint,
    question: str,
    wanted: Wanted,
    *,
    system: str | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> list[dict[str, Any]]:
    """Return answers to one question as {"text", "finished", "tokens"}.

    Args:
        speaker: Who is asked.
        question: The user's turn.
        wanted: What is wanted.
        system: A system turn before it.
        reporter: Hears what the server refuses.
        stopper: Asked before every token whether to stop.
    """
    [prompt] = with_system([Prompt("1", (Turn("user", question),))], system)
    stopper = stopper or Stopper()
    [answers] = _answers(speaker, [prompt], wanted, reporter or Reporter(), stopper.check, lambda _: None)
    return [asdict(one) for one in answers]


def with_system(prompts: Sequence[Prompt], system: str | None) -> list[Prompt]:
    """Return prompts with a system turn before those that have none; None changes nothing."""
    if system is None:
        return list(prompts)
    return [
        one if one.turns[0].role == "system" else replace(one, turns=(Turn("system", system), *one.turns))
        for one in prompts
    ]


def generate_file(
    speaker: Speaker | Endpoint,
    prompts_path: Path,
    out: Path,
    wanted: Wanted,
    *,
    system: str | None = None,
    limit: int | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> dict[str, Any]:
    """Answer a file's prompts into `out`, one JSON line an answer, in the order of the prompts.

    Returns {"prompts", "answers", "kept", "unfinished", "tokens", "seconds"}; `kept` answers were there already,
    and the last three are about the others. Several processes share the work, and the first one writes.

    Args:
        speaker: Who is asked.
        prompts_path: See `penchant.data.prompt_sets`.
        out: The file; see `penchant.workflow.answer_file`.
        wanted: What is wanted.
        system: A system turn before prompts that have none.
        limit: Only the first rows of the file.
        resume: Go on with `out` where it ends, if it is there.
        reporter: Hears progress.
        stopper: Asked before every token whether to stop.

    Raises:
        DataError: The prompts cannot be read or asked.
        UsageError: `out` is there already, or in the hands of another process.
        ModelError: What is to be resumed was made with other settings.
        DiskError: `out` cannot be written.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    found = read_prompts(prompts_path, limit=limit)
    reporter.note(found.describe())
    prompts = with_system(found.prompts, system)
    if isinstance(speaker, Speaker):
        check_prompts(speaker.loaded, speaker.chat, prompts)
    size = max(1, wanted.batch_rows // wanted.samples) * _BATCHES_A_WINDOW
    windows = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    identity = {**_who(speaker), **wanted.identity(), "prompts": _prompts_digest(prompts)}
    started, made = time.monotonic(), list[Answer]()
    total = count_answers(prompts, wanted.samples)
    with _opened_by_first(out, identity, windows, wanted.samples, resume=resume) as (file, done):
        kept = sum(count_answers(window, wanted.samples) for window in windows[:done])
        with stoppable_progress(reporter, stopper, "Answers", total) as answered:
            answered(kept)
            for window in windows[done:]:
                answers = _answers(speaker, window, wanted, reporter, stopper.check, answered)
                rows = [
                    row
                    for prompt, each in zip(window, answers, strict=True)
                    for row in rows_of(prompt, each, wanted.samples)
                ]
                done_by_first(lambda rows=rows: file.append(rows) if file else None)
                made += [answer for each in answers for answer in each]
    return {
        "prompts": len(prompts),
        "answers": total,
        "kept": kept,
        "unfinished": sum(not one.finished for one in made),
        "tokens": sum(one.tokens for one in made),
        "seconds": time.monotonic() - started,
    }


@contextlib.contextmanager
def _opened_by_first(
    out: Path, identity: Mapping[str, Any], windows: list[list[Prompt]], samples: int, *, resume: bool
) -> Iterator[tuple[AnswerFile | None, int]]:
    """The file, which the first of several processes alone has, and how many windows it holds."""
    with contextlib.ExitStack() as stack:
        files: list[AnswerFile] = []

        def opened() -> int:
            files.append(stack.enter_context(open_answers(out, identity, windows, samples, resume=resume)))
            return files[0].windows_done

        done = done_by_first(opened)
        yield (files[0] if is_first() else None), done


def _answers(
    speaker: Speaker | Endpoint,
    prompts: Sequence[Prompt],
    wanted: Wanted,
    reporter: Reporter,
    check_stop: Callable[[], None],
    on_answers: Callable[[int], None],
) -> list[list[Answer]]:
    common: dict[str, Any] = {
        "max_new_tokens": wanted.max_new_tokens,
        "samples": wanted.samples,
        "sampling": wanted.sampling,
        "stop": wanted.stop,
        "on_answers": on_answers,
        "check_stop": check_stop,
    }
    if isinstance(speaker, Endpoint):
        return done_by_first(lambda: remote_answers(speaker, prompts, on_problem=reporter.warn, **common))
    return answer_prompts(speaker.loaded, prompts, batch_rows=wanted.batch_rows, format=speaker.format, **common)


def _who(speaker: Speaker | Endpoint) -> dict[str, Any]:
    if isinstance(speaker, Endpoint):
        return {"endpoint": speaker.base_url, "model": speaker.model}
    return speaker.identity()


def _prompts_digest(prompts: Sequence[Prompt]) -> str:
    asked = [[one.id, [turn.as_message() for turn in one.turns], one.later, one.category] for one in prompts]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
