"""The stopper itself; what training does with it is among the faults."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from penchant.errors import Stopped
from penchant.workflow.reporter import Advance, Reporter
from penchant.workflow.stopping import SIGNALS, Stopper, stoppable_progress


def test_nothing_is_stopped_unasked() -> None:
    Stopper().check()


def test_a_signal_is_a_request_and_the_next_check_obeys(capfd: pytest.CaptureFixture[str]) -> None:
    with Stopper("penchant train x --resume") as stopper:
        stopper.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.requested
        with pytest.raises(Stopped) as caught:
            stopper.check()
    assert caught.value.exit_code == 75
    assert str(caught.value).endswith("\n  penchant train x --resume")
    assert "next safe point" in capfd.readouterr().err


def test_handlers_come_back_also_after_an_error() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    during: list[object] = []

    def fail() -> None:
        with Stopper():
            during.extend(signal.getsignal(number) for number in SIGNALS)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert not {id(one) for one in before} & {id(one) for one in during}
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]


def test_another_thread_leaves_handlers_alone() -> None:
    """Only the main thread may set them; a library caller in another one gets no error."""
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    def work() -> None:
        with Stopper() as stopper:
            found.append(signal.getsignal(signal.SIGTERM))
            stopper.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_report_of_progress_is_a_safe_point_to_stop() -> None:
    """What was done before the request has been told; what comes after is not begun."""
    told: list[int] = []

    class Listener(Reporter):
        @contextlib.contextmanager
        def progress(self, what: str, total: int) -> Iterator[Advance]:
            assert (what, total) == ("Counting", 3)
            yield lambda count, **_: told.append(count)

    stopper = Stopper()
    with stoppable_progress(Listener(), stopper, "Counting", 3) as done:
        done(1)
        stopper.requested = True
        with pytest.raises(Stopped):
            done(1)
    assert told == [1]


def test_under_nohup_a_closed_terminal_asks_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopper() as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopper.requested
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("sent", "launched", "code"),
    [
        ("SIGINT SIGINT", "", 130),
        ("SIGTERM SIGTERM", "", 0),  # whoever ends a job sends it to a launcher too, which passes it on
        ("SIGINT SIGINT", "a run", 0),
        ("SIGTERM pause SIGTERM", "", 143),
        ("SIGTERM SIGINT", "", 130),
        ("SIGINT pause SIGINT", "a run", 130),
        ("SIGHUP pause SIGHUP", "", 129),
        ("SIGCHLD SIGINT", "", 0),  # a signal that is not ours is not a first one
    ],
)
def test_a_second_signal_ends_the_process_at_once(sent: str, launched: str, code: int) -> None:
    """Unless it is the first one, passed on."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *sent.split()],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **({"TORCHELASTIC_RUN_ID": launched} if launched else {})},
    )
    assert done.returncode == code, done.stderr
    assert done.stdout == ("still here True\n" if code == 0 else "")
    assert done.stderr.count("next safe point") == 1


PROGRAM = """
import os, signal, sys, time
from penchant.workflow import stopping
stopping._SAME_REQUEST_SECONDS = 0.5
signal.signal(signal.SIGCHLD, lambda *_: None)
with stopping.Stopper() as stopper:
    for word in sys.argv[1:]:
        if word == "pause":
            time.sleep(0.6)
        else:
            os.kill(os.getpid(), getattr(signal, word))
            time.sleep(0.05)
    print("still here", stopper.requested)
"""


def test_a_second_interrupt_does_not_wait_for_the_end_of_a_long_computation() -> None:
    """The main thread is within one call for a minute, as in the backward pass of a large model."""
    program = (
        "import hashlib, os, signal, threading, time\n"
        "from penchant.workflow.stopping import Stopper\n"
        "def press():\n"
        "    for _ in range(2):\n"
        "        time.sleep(0.2)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "with Stopper():\n"
        "    threading.Thread(target=press).start()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1 << 28)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 130
    assert done.stderr.count("next safe point") == 1


def test_a_forked_child_is_ended_by_a_signal_and_its_parent_hears_nothing() -> None:
    """Ctrl+C reaches both: counted twice, it would end the parent before it has saved anything."""
    program = (
        "import os, signal, time\n"
        "from penchant.workflow.stopping import Stopper\n"
        "with Stopper() as stopper:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        time.sleep(30)\n"
        "        os._exit(0)\n"
        "    time.sleep(0.2)\n"
        "    for _ in range(2):\n"
        "        os.kill(child, signal.SIGINT)\n"
        "        time.sleep(0.1)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), stopper.requested)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, f"{-signal.SIGINT} False\n"), done.stderr
