"""The arena as one file to send to colleagues: they vote in their browser, and send a file of votes back.

The page loads nothing, names no model, and holds nothing that tells the sides apart. Text passes the gate of all
pages. Votes are kept in the browser's own storage where it allows that, so that a closed tab loses none.
"""

from __future__ import annotations

from pathlib import Path

from penchant.data.atomic import disk_errors, write_text
from penchant.evaluation.arena.ballots import FORMAT, code_of, series_of
from penchant.evaluation.arena.contest import Contest, showings
from penchant.evaluation.arena.shown import KEYS, shown_pair
from penchant.evaluation.arena.votes import CHOICES
from penchant.reporting.page import page_environment


def write_arena_page(contest: Contest, ballot: str, target: Path) -> Path:
    """Write the page; it is complete or it is not there.

    Args:
        contest: What is voted on.
        ballot: The page's number, see `penchant.evaluation.arena.ballots.new_ballot`.
        target: The page.

    Raises:
        DiskError: It cannot be written.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, render_arena_page(contest, ballot))
    return target


def render_arena_page(contest: Contest, ballot: str) -> str:
    """Return the page."""
    pairs = [
        {
            "position": showing.position,
            "codes": {choice: code_of(contest, ballot, showing.position, choice) for choice in CHOICES},
            **shown_pair(contest, showing),
        }
        for showing in showings(contest, series_of(ballot))
    ]
    return (
        page_environment()
        .get_template("arena.html.j2")
        .render(pairs=pairs, ballot=ballot, format=FORMAT, keys=KEYS, prompts=len(contest.entries))
    )
