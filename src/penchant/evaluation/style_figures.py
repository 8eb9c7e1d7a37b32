"""What the house-style judge says of two models' answers to the same questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penchant.evaluation.house_style import PASS, first_sentences, is_degenerate, judge, words
from penchant.evaluation.stats import Interval, mcnemar_exact, wilson


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer with its verdict.

    Attributes:
        text: The model's words.
        finished: Whether the model ended it by itself.
        verdict: "pass", or the first rule that it breaks.
        degenerate: Whether it is empty, unfinished, a loop or an echo.
    """

    text: str
    finished: bool
    verdict: str
    degenerate: bool

    @property
    def passes(self) -> bool:
        """Whether the answer shows the style."""
        return self.verdict == PASS


def judged(question: str, text: str, *, finished: bool) -> JudgedAnswer:
    """Return an answer with its verdict."""
    text = text.strip()
    verdict = judge(question, text, finished=finished)
    return JudgedAnswer(text, finished, verdict, is_degenerate(question, text, finished=finished))


def cut_answers(questions: Sequence[str], answers: Sequence[JudgedAnswer], count: int) -> list[JudgedAnswer]:
    """Return answers cut mechanically after `count` sentences, judged as if the model had ended there.

    An answer that has fewer sentences and breaks off in the last one stays unfinished.
    """
    cut = []
    for question, answer in zip(questions, answers, strict=True):
        text = first_sentences(answer.text, count)
        ends = answer.finished or text.rstrip("\"')]").endswith((".", "!", "?"))
        cut.append(judged(question, text, finished=ends))
    return cut


def style_figures(name: str, answers: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """Return pass rate, degenerate rate (with Wilson 95 % intervals), mean length and failures of one model.

    Args:
        name: Stands at the end of every key: "policy" or "reference".
        answers: One a question.
    """
    count = len(answers)
    passed = wilson(sum(answer.passes for answer in answers), count)
    degenerate = wilson(sum(answer.degenerate for answer in answers), count)
    return {
        f"pass_rate_{name}": passed.value,
        f"pass_rate_{name}_interval": _pair(passed),
        f"degenerate_rate_{name}": degenerate.value,
        f"degenerate_rate_{name}_interval": _pair(degenerate),
        f"mean_words_{name}": sum(len(words(answer.text)) for answer in answers) / count,
        f"breakdown_{name}": dict(
            Counter(answer.verdict for answer in answers if not answer.passes).most_common()
        ),
    }


def control_figures(name: str, answers: Sequence[JudgedAnswer], policy: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """Return a control's figures, with the exact McNemar p-value of the policy against it."""
    figures = style_figures("", answers)
    return {
        "name": name,
        "pass_rate": figures["pass_rate_"],
        "pass_rate_interval": figures["pass_rate__interval"],
        "degenerate_rate": figures["degenerate_rate_"],
        "mean_words": figures["mean_words_"],
        "p_against_dpo": compare(policy, answers)["mcnemar_p"],
        "committed": False,
    }


def compare(policy: Sequence[JudgedAnswer], other: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """Return how many questions only one of two passes, and the exact McNemar p-value of that."""
    gained = sum(ours.passes and not theirs.passes for ours, theirs in zip(policy, other, strict=True))
    lost = sum(theirs.passes and not ours.passes for ours, theirs in zip(policy, other, strict=True))
    return {"questions_gained": gained, "questions_lost": lost, "mcnemar_p": mcnemar_exact(gained, lost)}


def _pair(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
