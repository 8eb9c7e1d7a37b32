"""Sending to trackers that are made up: what is sent when, once, and what a broken one does to a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from tests.tiny import Notes
from tests.written_runs import write_lines, write_object, write_run

from penchant.cli.completers import TRACKERS as OFFERED
from penchant.cli.completers import tracker as completed
from penchant.errors import UsageError
from penchant.workflow.tracking.afterwards import runs_of
from penchant.workflow.tracking.asked import TRACKERS, trackers_of
from penchant.workflow.tracking.environment import tracker_environment, wandb_is_offline
from penchant.workflow.tracking.ledger import Ledger, alone, read_ledger
from penchant.workflow.tracking.process import Outcome, TrackerProcess
from penchant.workflow.tracking.records import Record
from penchant.workflow.tracking.send import Sender, follow, unsent
from penchant.workflow.tracking.subject import Subject
from penchant.workflow.tracking.tracked import TrackedReporter, describe_outcome, tracked


class Held:
    """A tracker in memory; `opener` opens it, again and again."""

    look = "See: nothing"

    def __init__(self, *, breaks_at: int | None = None, whole: bool = False) -> None:
        self.steps: list[int] = []
        self.final: dict[str, float] = {}
        self.opened = self.closed = 0
        self._breaks_at, self._whole = breaks_at, whole

    def opener(self, subject: Subject, ledger: Ledger) -> Held:
        self.opened += 1
        ledger.name = ledger.name or subject.name
        if self._whole:  # as W&B offline: every opening begins a new one
            self.steps = []
            ledger.forget()
        return self

    def log(self, records: Sequence[Record]) -> None:
        if self._breaks_at is not None and any(record.step >= self._breaks_at for record in records):
            raise OSError("the disk is full")
        self.steps += [record.step for record in records if record.part == "train"]

    def end(self, figures: Mapping[str, float], step: int) -> None:
        self.final |= {**figures, "at": step}

    def close(self) -> None:
        self.closed += 1


def steps(first: int, last: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": 1 / step} for step in range(first, last + 1)]


def waiting(*turns: Callable[[], object]) -> Callable[[], bool]:
    """A wait that does something each time, and after the last says that the run is over."""
    left = list(turns)

    def wait() -> bool:
        left.pop(0)()
        return not left

    return wait


def test_what_comes_is_sent_and_nothing_twice(tmp_path: Path) -> None:
    run, held = write_run(tmp_path / "run", steps=steps(1, 3)), Held()
    more = waiting(lambda: None, lambda: write_lines(run / "metrics.jsonl", steps(4, 5), more=True))
    follow(Sender(run, "trackio", held.opener), more)
    assert (held.steps, held.opened, held.closed) == ([1, 2, 3, 4, 5], 1, 1)
    write_object(run / "eval" / "training.json", {"steps": 5})
    again = Sender(run, "trackio", held.opener)
    follow(again, lambda: True)
    assert held.steps == [1, 2, 3, 4, 5]
    assert held.final == {"trained_cost/steps": 5.0, "at": 5}
    assert again.sent.records == 1
    nothing = Sender(run, "trackio", held.opener)
    follow(nothing, lambda: True)
    assert nothing.sent.records == 0
    assert held.opened == 2  # nothing new, so it was not opened
    assert unsent(run, "trackio") == 0


@pytest.mark.parametrize(("tracker", "sent"), [("trackio", [1, 2, 3, 4]), ("tensorboard", [1, 2, 3, 2, 3, 4])])
def test_steps_that_a_resume_takes_again(tmp_path: Path, tracker: str, sent: list[int]) -> None:
    """What only grows keeps the first numbers; what can take others in their place gets them."""
    run, held = write_run(tmp_path / "run", steps=steps(1, 3)), Held()
    follow(Sender(run, tracker, held.opener), lambda: True)
    write_lines(run / "metrics.jsonl", steps(1, 1))  # the resume goes on from the checkpoint of step 1
    sender = Sender(run, tracker, held.opener)
    follow(sender, waiting(lambda: write_lines(run / "metrics.jsonl", steps(2, 4), more=True)))
    assert held.steps == sent


def test_a_tracker_that_cannot_go_on_gets_all_of_the_run_anew(tmp_path: Path) -> None:
    run, held = write_run(tmp_path / "run", steps=steps(1, 3)), Held(whole=True)
    follow(Sender(run, "wandb", held.opener), lambda: True)
    write_object(run / "eval" / "training.json", {"steps": 3})
    follow(Sender(run, "wandb", held.opener), lambda: True)
    assert held.steps == [1, 2, 3]
    assert held.final["trained_cost/steps"] == 3.0


def test_what_a_broken_tracker_did_not_take_is_counted_and_sent_later(tmp_path: Path) -> None:
    run, held = write_run(tmp_path / "run", steps=steps(1, 2)), Held(breaks_at=4)
    more = waiting(lambda: None, lambda: write_lines(run / "metrics.jsonl", steps(3, 5), more=True))
    with pytest.raises(OSError, match="full"):
        follow(Sender(run, "trackio", held.opener), more)
    assert unsent(run, "trackio") == 3
    mended = Held()
    follow(Sender(run, "trackio", mended.opener), lambda: True)
    assert mended.steps == [3, 4, 5]
    assert read_ledger(run, "trackio").sent == {"train": 5}


def test_one_process_alone_sends_a_run_to_a_tracker(tmp_path: Path) -> None:
    with (
        alone(tmp_path, "trackio") as first,
        alone(tmp_path, "trackio") as second,
        alone(tmp_path, "wandb") as other,
    ):
        assert (first, second, other) == (True, False, True)
    with alone(tmp_path, "trackio") as later:
        assert later


def test_names_are_looked_up_and_their_packages_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()  # W&B makes such a folder, which Python takes for a package without code
    monkeypatch.syspath_prepend(tmp_path)
    assert trackers_of([]) == ()
    with pytest.raises(UsageError, match='Did you mean "tensorboard"'):
        trackers_of(["tensorbord"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="wandb is not installed") as caught:
        trackers_of(["wandb"], where="--to")
    assert caught.value.fix == 'pip install "penchant[track]"'
    monkeypatch.setattr("importlib.util.find_spec", lambda name: type("Spec", (), {"origin": f"{name}.py"}))
    assert trackers_of(["trackio, wandb", "trackio"]) == ("trackio", "wandb")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    with pytest.raises(UsageError, match="TRACKIO_SPACE_ID sends"):  # HF_HUB_OFFLINE is set in all tests
        trackers_of(["trackio"])
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(UsageError, match="WANDB_MODE"):
        trackers_of(["wandb"])


def test_the_shell_offers_trackers_also_behind_a_comma() -> None:
    assert OFFERED == TRACKERS
    assert completed("t") == ["trackio", "tensorboard"]
    assert completed("trackio,t") == ["trackio,tensorboard"]


def test_nothing_leaves_the_machine_that_nobody_named(tmp_path: Path) -> None:
    plain = {"HOME": str(tmp_path), "HF_TOKEN": "hf_x"}
    assert tracker_environment("trackio", plain)["HF_HUB_OFFLINE"] == "1"  # it would ask who is logged in
    told = {**plain, "TRACKIO_SPACE_ID": "me/space"}
    assert "HF_HUB_OFFLINE" not in tracker_environment("trackio", told)
    assert tracker_environment("wandb", told)["WANDB_MODE"] == "offline"
    assert tracker_environment("wandb", plain)["WANDB_ERROR_REPORTING"] == "false"


def test_wandb_is_online_only_with_a_key_and_where_the_hub_may_be_reached(tmp_path: Path) -> None:
    home, key = {"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "WANDB_API_KEY": "k"}
    assert wandb_is_offline(home)
    assert not wandb_is_offline(key)
    assert wandb_is_offline({**key, "HF_HUB_OFFLINE": "Yes"})
    assert wandb_is_offline({**key, "WANDB_MODE": "offline"})
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n", encoding="utf-8")
    assert not wandb_is_offline(home)
    assert wandb_is_offline({**home, "WANDB_BASE_URL": "https://other.example"})


def test_a_folder_of_runs_is_all_of_them(tmp_path: Path) -> None:
    for name in ("a", "b/1-sft", "b/2-dpo"):
        write_run(tmp_path / name)
    write_run(tmp_path / "empty")
    (tmp_path / "empty" / "metrics.jsonl").unlink()
    assert runs_of(tmp_path) == [(tmp_path / name).resolve() for name in ("a", "b/1-sft", "b/2-dpo")]
    assert runs_of(tmp_path / "a") == [(tmp_path / "a").resolve()]
    with pytest.raises(UsageError, match=r'Did you mean ".*/a"'):
        runs_of(tmp_path / "aa")


def speaking(*lines: str, code: int = 0, waits: bool = True) -> list[str]:
    """A process that says lines and ends when its input does, or at once."""
    body = f"import sys; print({chr(10).join(lines)!r}, flush=True); {'sys.stdin.read();' if waits else ''}"
    return [sys.executable, "-S", "-c", f"{body} sys.exit({code})"]


def test_a_process_that_sent_all_says_where_it_can_be_seen(tmp_path: Path) -> None:
    told = json.dumps({"records": 7, "name": "mine", "look": "See: x"})
    outcome = TrackerProcess(tmp_path, "trackio", command=speaking(told)).finish()
    assert outcome == Outcome(tmp_path, "trackio", 7, 0, "mine", "See: x", "")
    assert describe_outcome(outcome) == 'trackio: 7 records sent as "mine". See: x'


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (speaking('{"failed": "OSError: quota"}'), "OSError: quota"),
        (speaking("no JSON", code=3, waits=False), "its process ended with code 3"),
        (["/there/is/no/such/program"], "cannot be started"),
    ],
)
def test_a_process_that_fails_is_one_warning_a_count_and_a_remedy(
    tmp_path: Path, command: list[str], why: str
) -> None:
    run, warned = write_run(tmp_path / "run", steps=steps(1, 6)), []
    outcome = TrackerProcess(run, "wandb", warned.append, command=command).finish()
    assert len(warned) == 1
    assert why in warned[0]
    line = describe_outcome(outcome)
    assert line.startswith("wandb: 6 records of run are not there (")
    assert line.endswith(f"penchant track {run} --to wandb")


def test_a_process_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "import time; time.sleep(1)"]
    run = write_run(tmp_path / "run", steps=steps(1, 2))
    process = TrackerProcess(run, "trackio", command=command)
    outcome = process.finish(0.1)
    assert "still at it" in outcome.failed
    assert outcome.unsent == 2
    process.finish()  # for the sake of the tests after this one


def test_each_run_of_a_workflow_is_sent_and_the_one_before_is_over(tmp_path: Path) -> None:
    heard: list[str] = []

    class Told(TrackerProcess):
        def __init__(self, run: Path, tracker: str, warn: Callable[[str], None]) -> None:
            self._told = (run, tracker)
            heard.append(f"begin {run.name} {tracker}")
            if tracker == "wandb":
                warn("no room")

        def let_go(self) -> None:
            heard.append(f"over {self._told[0].name} {self._told[1]}")

        def finish(self, seconds: float = 0) -> Outcome:
            return Outcome(*self._told, records=2, name="x", look="See: y")

    notes = Notes()
    reporter = TrackedReporter(notes, ("trackio", "wandb"), Told)
    reporter.note("hello")
    with reporter.progress("Training", 3) as advance:
        advance(1)
    for name in ("a", "b"):
        reporter.begin_steps(tmp_path / name)
    reporter.finish()
    assert heard == [
        "begin a trackio", "begin a wandb", "over a trackio", "over a wandb",
        "begin b trackio", "begin b wandb", "over b trackio", "over b wandb",
    ]  # fmt: skip
    assert notes.lines[0] == "hello"
    assert notes.lines[1].startswith(
        "Warning: wandb: no room. The run goes on. To send them later: penchant track"
    )
    assert notes.lines.count('trackio: 2 records sent as "x". See: y') == 2


def test_without_trackers_nothing_is_between() -> None:
    notes = Notes()
    with tracked(notes, ()) as reporter:
        assert reporter is notes


def test_the_process_beside_a_run_loads_no_torch() -> None:
    program = (
        "import sys, penchant.workflow.tracking.child, penchant.workflow.tracking.afterwards;"
        "print(sorted({'torch', 'transformers', 'numpy', 'trackio', 'wandb', 'tensorboard'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
