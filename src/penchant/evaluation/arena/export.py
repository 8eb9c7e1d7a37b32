"""What an arena gives to training and to judges: preference pairs, votes, answers, and what was not decided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penchant.data.atomic import disk_errors, write_json, write_text
from penchant.evaluation.arena.contest import Contest, Entry, Said
from penchant.evaluation.arena.noise import FEWEST_REPEATS
from penchant.evaluation.arena.votes import Vote, first_votes

PREFERENCES: Mapping[str, str] = {"first": "first", "second": "second", "tie": "tie", "bad": "tie"}
_MOST_NOISE = 0.4999


def write_export(
    folder: Path, contest: Contest, votes: Sequence[Vote], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Write what the votes say to a folder, and return what was written, counted.

    `pairs.jsonl` for `penchant prepare` and `train`; `undecided.jsonl`, the prompts that were rated and have no
    better answer, each with the reason; `votes.jsonl` and `answers.jsonl` for `penchant judge`; `summary.json`,
    the figures and the counts.

    Args:
        folder: Where to; files of these names are replaced.
        contest: What was voted on.
        votes: Those that stand.
        figures: See `penchant.evaluation.arena.figures.arena_figures`.

    Raises:
        DiskError: A file cannot be written.
    """
    noise = figures["label_noise"]
    known = noise["value"] if noise is not None and noise["pairs"] >= FEWEST_REPEATS else None
    pairs, undecided = preference_rows(contest, votes, noise=known)
    judged = vote_rows(votes)
    counts = {
        "pairs": len(pairs),
        "undecided": {reason: sum(row["reason"] == reason for row in undecided) for reason in _REASONS},
        "not_rated": len(contest.entries) - len(pairs) - len(undecided),
        "votes": len(judged),
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("pairs", pairs),
        ("undecided", undecided),
        ("votes", judged),
        ("answers", answer_rows(contest)),
    ):
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_json(folder / "summary.json", {**counts, "figures": dict(figures)})
    return counts


_REASONS = ("tie", "both bad", "raters differ", "same text", "skipped")


def preference_rows(
    contest: Contest, votes: Sequence[Vote], *, noise: float | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the pairs that the votes decided, and the rated prompts that they did not.

    A prompt goes by the majority of its raters' first votes for one of the two; ties and "both bad" are no votes
    for either. With the share e of flipped labels known, a pair's `confidence` is the probability that its label
    is right, after k votes for it and m against: (1 - e)^(k - m) / ((1 - e)^(k - m) + e^(k - m)), both labels
    being as likely beforehand and flips independent.

    Args:
        contest: What was voted on.
        votes: Those that stand.
        noise: Share of flipped labels, in [0, 1/2); None where it is not known.
    """
    by_entry: dict[str, list[Vote]] = {}
    for vote in first_votes(votes):
        by_entry.setdefault(vote.entry, []).append(vote)
    touched = {vote.entry for vote in votes}
    pairs, undecided = [], []
    for entry in contest.entries:
        cast = by_entry.get(entry.id, [])
        counts = _counts(cast)
        reason = _undecided(entry, counts, bool(cast))
        if reason and entry.id in touched:
            undecided.append({**_asked(entry), **_both(entry), "reason": reason, "votes": counts})
        elif cast and not reason:
            pairs.append(_pair(contest, entry, counts, noise))
    return pairs, undecided


def vote_rows(votes: Iterable[Vote]) -> list[dict[str, Any]]:
    """Return the votes as `penchant judge --votes` reads them; of "both bad" neither is better, which is a tie."""
    return [
        {
            "id": vote.entry,
            "preference": PREFERENCES[str(vote.verdict)],
            "rater": vote.rater,
            "both_bad": vote.verdict == "bad",
            "at": vote.at,
        }
        for vote in first_votes(votes)
    ]


def answer_rows(contest: Contest) -> list[dict[str, Any]]:
    """Return both answers to every prompt as `penchant judge --answers` reads them."""
    rows = []
    for entry in contest.entries:
        if entry.later:
            asked: dict[str, Any] = {"turns": [entry.turns[-1].content, *entry.later]}
        else:
            asked = {"prompt": [turn.as_message() for turn in entry.turns]}
        finished = {"first_finished": entry.first.finished, "second_finished": entry.second.finished}
        rows.append({"id": entry.id, **asked, **_both(entry), **finished})
    return rows


def _undecided(entry: Entry, counts: Mapping[str, int], rated: bool) -> str:
    if not rated:
        return "skipped"
    if entry.first.texts == entry.second.texts:
        return "same text"
    if counts["first"] != counts["second"]:
        return ""
    if counts["first"]:
        return "raters differ"
    return "both bad" if counts["bad"] > counts["tie"] else "tie"


def _pair(contest: Contest, entry: Entry, counts: Mapping[str, int], noise: float | None) -> dict[str, Any]:
    ahead = "first" if counts["first"] > counts["second"] else "second"
    chosen, rejected = (entry.first, entry.second) if ahead == "first" else (entry.second, entry.first)
    lead = abs(counts["first"] - counts["second"])
    known = {} if noise is None or noise >= _MOST_NOISE else {"confidence": _confidence(noise, lead)}
    names = dict(zip(("first", "second"), contest.names, strict=True))
    return {
        **_asked(entry),
        "chosen": _side(entry, chosen),
        "rejected": _side(entry, rejected),
        "chosen_complete": chosen.finished,
        "rejected_complete": rejected.finished,
        "source": "arena",
        **known,
        "arena": {"chosen_model": names[ahead], "votes": dict(counts), **contest.origin},
    }


def _confidence(noise: float, lead: int) -> float:
    right, wrong = (1 - noise) ** lead, noise**lead
    return right / (right + wrong)


def _counts(votes: Sequence[Vote]) -> dict[str, int]:
    said = [vote.verdict for vote in votes]
    return {name: said.count(name) for name in ("first", "second", "tie", "bad")}


def _asked(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "prompt": [turn.as_message() for turn in entry.turns]}


def _both(entry: Entry) -> dict[str, Any]:
    sides = {"first": entry.first, "second": entry.second}
    return {name: list(said.texts) if entry.later else said.texts[0] for name, said in sides.items()}


def _side(entry: Entry, said: Said) -> Any:
    """A text; of a question of several turns the messages that follow the prompt."""
    if not entry.later:
        return said.texts[0]
    messages = [{"role": "assistant", "content": said.texts[0]}]
    for asked, answer in zip(entry.later, said.texts[1:], strict=True):
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return messages
