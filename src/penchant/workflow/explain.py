"""`penchant explain`: what a run directory says to what people ask, with the pairs and the tokens that did it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from penchant.errors import PenchantError, Stopped
from penchant.evaluation.explanations import chosen_falls
from penchant.evaluation.explanations.explanation import YES, Explanation
from penchant.evaluation.explanations.questions import QUESTIONS, asked_as, by_importance, find_question
from penchant.evaluation.explanations.token_shares import token_fall, token_figures
from penchant.evaluation.run_record import RunRecord
from penchant.workflow.pair_tokens import pair_tokens
from penchant.workflow.reporter import Reporter
from penchant.workflow.run_record import held_out_texts, read_run, training_texts
from penchant.workflow.stopping import Stopper

_TOKEN_PAIRS = 16  # whose tokens are scored


def explain(
    run: Path,
    asked: str | None = None,
    *,
    tokens: bool = True,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> dict[str, Any]:
    """Return the answers to one question or to all, the most important first, as plain data.

    Args:
        run: A run directory, finished or not.
        asked: A question, in words or by name; None = all.
        tokens: Where chosen responses fell and the model is there, score the pairs that fell most, token by token.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Returns:
        `run`, `data` (where its pairs were), `finished`, `steps`, `notes` (what could not be read), and
        `answers`: an `Explanation` each, with the question as `asked`.

    Raises:
        PenchantError: There is no run, its files cannot be read, or the question is none that can be answered.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    questions = QUESTIONS if asked is None else (find_question(asked),)
    record = read_run(run)
    stopper.check()
    pairs, why = training_texts(record)
    notes = [f"Texts of training pairs are not shown: {why}."] if why else []
    if not record.finished:
        notes.append("The run is not finished: this is what its steps say so far.")
    record = replace(record, pairs=pairs, held_out_pairs=held_out_texts(record))
    answers = by_importance(question.answer(record) for question in questions)
    stopper.check()
    if tokens:
        answers = [_with_tokens(answer, record, notes, reporter, stopper) for answer in answers]
    return {
        "run": str(run),
        "data": record.circumstances.get("data"),
        "finished": record.finished,
        "steps": int(record.steps[-1]["step"]) if record.steps else 0,
        "notes": notes,
        "answers": [{"asked": asked_as(answer.question), **asdict(answer)} for answer in answers],
    }


def _with_tokens(
    answer: Explanation, record: RunRecord, notes: list[str], reporter: Reporter, stopper: Stopper
) -> Explanation:
    """The answer with what single tokens did, where chosen responses fell; a note says why not."""
    if answer.question != chosen_falls.NAME or answer.verdict != YES or not record.pair_lines:
        return answer
    names = chosen_falls.worst_ids(record, _TOKEN_PAIRS)
    if not names:
        return answer
    try:
        scored, decode = pair_tokens(record, names, reporter, stopper)
    except Stopped:
        raise
    except PenchantError as error:
        notes.append(f"Tokens were not scored: {error.what}.")
        return answer
    falls = [token_fall(one.pair, (one.policy[0] - one.reference[0]).tolist()) for one in scored]
    return replace(answer, tokens=token_figures(falls, decode))
