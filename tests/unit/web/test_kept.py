"""What is kept: made once for what it is made from, and for what changes all the time only now and then."""

from __future__ import annotations

import threading

import pytest

from penchant.web import kept
from penchant.web.kept import Kept


def test_a_result_is_made_once_by_however_many_ask() -> None:
    made, shelf, go_on = [], Kept[int](4), threading.Event()

    def make() -> int:
        made.append(1)
        assert go_on.wait(10)
        return 5

    asking = [threading.Thread(target=shelf.get, args=("a", "1", make)) for _ in range(4)]
    for thread in asking:
        thread.start()
    go_on.set()
    for thread in asking:
        thread.join()
    assert len(made) == 1
    assert shelf.get("a", "1", make) == ("1", 5)


def test_an_older_result_does_for_ten_times_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(kept, "monotonic", lambda: now[0])
    shelf = Kept[float](4)

    def make() -> float:
        now[0] += 2.0
        return now[0]

    assert shelf.get("a", "1", make, hurry=False) == ("1", 102.0)
    now[0] = 121.9
    assert shelf.get("a", "2", make, hurry=False) == ("1", 102.0)
    assert shelf.get("a", "2", make) == ("2", 123.9)
    now[0] = 144.0
    assert shelf.get("a", "3", make, hurry=False) == ("3", 146.0)


def test_only_so_many_are_kept() -> None:
    shelf, made = Kept[int](2), []
    for name in ("a", "b", "a", "c", "a", "b"):
        shelf.get(name, "1", lambda name=name: made.append(name) or 1)
    assert made == ["a", "b", "c", "b"]
