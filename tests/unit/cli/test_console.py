"""What is said on the way, and how."""

from __future__ import annotations

import io
import sys

import pytest

from penchant.cli import console, progress_view
from penchant.cli.console import (
    PlainReporter,
    TerminalReporter,
    make_reporter,
    printable,
    write_what_can_be_written,
)
from penchant.workflow.reporter import Reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_reporter_fits_where_standard_error_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert type(make_reporter(quiet=True)) is Reporter
    assert type(make_reporter(quiet=False)) is TerminalReporter
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(make_reporter(quiet=False)) is PlainReporter


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext é 日本", "plain\n\ttext é 日本"),
        ("\x1b[2J\x07", "�[2J�"),
        ("a\u202eb\u200bc", "a�b�c"),
        ("\ud800", "�"),
        ("one\rtwo", "one�two"),
    ],
)
def test_nothing_printed_steers_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_log_gets_a_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Between beginning and end only every few seconds, so that a log stays short."""
    with PlainReporter().progress("Training", 3) as advance:
        for _ in range(3):
            advance(1, **{"loss": 0.69314, "rewards/accuracies": 0.5, "unknown": 1})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Training: 3/3 in 0 s, ")
    assert err.endswith(", loss 0.693, accuracy 0.500\n")
    assert err.count("\n") == 1


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    held = Clock()
    monkeypatch.setattr(console.time, "monotonic", held)
    monkeypatch.setattr(progress_view, "_process_peak_bytes", lambda: 1_500_000_000)
    return held


def test_a_log_gets_a_line_now_and_then_and_the_last_state(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    """Also where the body ends early, or is interrupted."""

    def interrupted() -> None:
        with PlainReporter().progress("Scoring", 10) as advance:
            for now in (4, 12, 13, 20):
                clock.now = now
                advance(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err.splitlines() == [
        "Scoring: 4/10, 0.3/s, 1.50 GB",
        "Scoring: 8/10 in 20 s, 0.4/s, 1.50 GB",
    ]


def test_what_did_nothing_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainReporter().progress("Scoring", 0):
        pass
    assert capsys.readouterr().err == ""


def test_notes_go_to_standard_error_made_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    PlainReporter().note("8 rows\x1b[0m")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "8 rows�[0m\n")


def test_a_terminal_gets_bars_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    reporter = TerminalReporter()
    reporter.note("[red]8 rows[/red]")
    with reporter.progress("Training [bold]", 2) as advance:
        advance(1, loss=0.5)
        advance(1, loss=0.25)
    shown = screen.getvalue()
    assert "[red]8 rows[/red]" in shown  # a file name in square brackets is text, not markup
    assert "Training [bold]" in shown
    assert "2/2" in shown
    assert "loss 0.250" in shown


def test_bars_within_bars_leave_their_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    reporter = TerminalReporter()
    with reporter.progress("Training", 2) as advance:
        with reporter.progress("Validation", 3) as inner:
            inner(3)
        advance(2)
    after = screen.getvalue().rpartition("3/3")[2]
    assert "2/2" in after
    assert "in 0 s" in after


def test_a_terminal_that_cannot_be_steered_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_reporter(quiet=False)) is PlainReporter


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_a_stream_has_no_character_for_is_written_as_an_escape(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    write_what_can_be_written(stream)
    stream.write("\u65e5 \u2501")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u65e5 \\u2501"  # type: ignore[attr-defined] # a BytesIO


def test_a_quiet_reporter_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = make_reporter(quiet=True)
    reporter.note("text")
    with reporter.progress("Training", 1) as advance:
        advance(1, loss=1.0)
    assert capsys.readouterr() == ("", "")


def test_a_warning_stands_out_and_is_as_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a log by its word, on a terminal in bold as well; markup in it is text."""
    PlainReporter().warn("look \x1b[2J[red]here")
    assert capsys.readouterr().err == "Warning: look \ufffd[2J[red]here\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    reporter = TerminalReporter()
    reporter._console = console.Console(file=terminal, force_terminal=True, width=80)
    reporter.warn("look \x1b[2J[red]here")
    said = terminal.getvalue()
    assert "Warning: look \ufffd[2J[red]here" in said
    assert said.startswith("\x1b[1;33m")


class Gone(Terminal):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    for reporter in (TerminalReporter(), PlainReporter()):
        reporter.warn("something")
        with reporter.progress("Training", 2) as advance:
            advance(2)
