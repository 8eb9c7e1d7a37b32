"""The order, the sides and the repeats of what a rater is shown."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.arenas import contest

from penchant.evaluation.arena.contest import FEWEST_APART, contest_of, showings


@settings(max_examples=25)
@given(st.integers(1, 80), st.floats(0, 0.5), st.text(max_size=8))
def test_every_pair_is_shown_once_and_repeats_come_later_with_their_sides_swapped(
    prompts: int, repeats: float, series: str
) -> None:
    found = contest(prompts, repeats=repeats)
    shown = showings(found, series)
    assert [one.position for one in shown] == list(range(len(shown)))
    first = {one.entry: one for one in shown if not one.repeat}
    assert sorted(first) == list(range(prompts))
    again = [one for one in shown if one.repeat]
    assert len(again) <= repeats * prompts + 0.5
    for one in again:
        assert one.swapped != first[one.entry].swapped
        assert one.position - first[one.entry].position > FEWEST_APART
    assert len({one.entry for one in again}) == len(again)


def test_as_many_come_again_as_were_asked_for() -> None:
    for prompts, expected in ((8, 0), (24, 3), (40, 5), (200, 25)):
        assert sum(one.repeat for one in showings(contest(prompts), "x")) == expected


def test_each_rater_has_an_order_and_sides_of_their_own_and_the_secret_decides_both() -> None:
    found = contest(200)
    ours, theirs = showings(found, "live:ann"), showings(found, "live:bob")
    assert ours == showings(found, "live:ann") != theirs
    assert 70 < sum(one.swapped for one in ours if not one.repeat) < 130
    other = contest_of({**found.as_json(), "secret": "another"})
    assert showings(other, "live:ann") != ours


def test_a_contest_comes_back_from_its_json() -> None:
    found = contest(5)
    assert contest_of(json.loads(json.dumps(found.as_json()))) == found
