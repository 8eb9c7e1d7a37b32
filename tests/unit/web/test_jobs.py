"""Work in a thread: done once, told how far it is, and never lost without a word."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from penchant.errors import DataError
from penchant.web.jobs import Jobs


def test_a_job_is_done_once_and_says_how_far_it_is() -> None:
    jobs, told, go_on, calls = Jobs("test", keep=2), Event(), Event(), []

    def work(say: Callable[[str], None]) -> int:
        calls.append(1)
        say("half")
        told.set()
        assert go_on.wait(10)
        return 7

    job = jobs.start("a", work)
    assert jobs.start("a", work) is job
    assert told.wait(10)
    assert (job.note, job.done.is_set(), jobs.find("b")) == ("half", False, None)
    go_on.set()
    assert job.done.wait(10)
    assert (job.result, job.error, len(calls)) == (7, "", 1)
    assert jobs.start("a", work) is job


def test_what_failed_says_why_and_is_tried_anew(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = Jobs("test", keep=2)
    tried = [DataError("it is torn", fix="Mend it."), ValueError("<b>")]

    def work(say: Callable[[str], None]) -> int:
        if tried:
            raise tried.pop(0)
        return 1

    errors = []
    for _ in range(3):
        job = jobs.start("a", work)
        assert job.done.wait(10)
        errors.append(job.error)
    assert errors == ["it is torn\n  Mend it.", "A defect of Penchant: ValueError: <b>", ""]
    assert "ValueError" in capsys.readouterr().err


def test_only_the_newest_are_remembered() -> None:
    jobs = Jobs("test", keep=2)
    for key in range(5):
        assert jobs.start(key, lambda _: None).done.wait(10)
    assert [jobs.find(key) is not None for key in range(5)] == [False, False, False, True, True]
