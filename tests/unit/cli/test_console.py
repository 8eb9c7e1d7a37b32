"""What is said on the way, and how."""

from __future__ import annotations

import io
import sys

import pytest

from penchant.cli import console
from penchant.cli.console import PlainReporter, TerminalReporter, make_reporter, printable
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
    assert err == "Training: 3/3, 0 s left  loss 0.693  accuracy 0.500\n"


def test_a_log_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 12.0, 13.0, 20.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with PlainReporter().progress("Scoring", 10) as advance:
        for _ in range(4):
            advance(2)
    assert capsys.readouterr().err == "Scoring: 4/10, 18 s left\n"


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
