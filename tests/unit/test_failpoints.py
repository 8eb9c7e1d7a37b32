"""Points do nothing unless a test asks twice for it."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest

from penchant.errors import UsageError
from penchant.failpoints import failpoint


def asked(monkeypatch: pytest.MonkeyPatch, what: str, *, test: str = "1") -> None:
    monkeypatch.setenv("PENCHANT_FAILPOINTS", what)
    monkeypatch.setenv("PENCHANT_TEST", test)


@pytest.mark.parametrize(("action", "number"), [("enospc", errno.ENOSPC), ("oserror", errno.EIO)])
def test_a_point_fails_as_asked(monkeypatch: pytest.MonkeyPatch, action: str, number: int) -> None:
    asked(monkeypatch, f"other=kill,here={action}")
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        failpoint("here")
    assert caught.value.errno == number
    failpoint("elsewhere")


def test_without_both_variables_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, "here=kill", test="0")
    failpoint("here")
    monkeypatch.delenv("PENCHANT_FAILPOINTS")
    monkeypatch.setenv("PENCHANT_TEST", "1")
    failpoint("here")


def test_a_hit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, "counted=enospc@3")
    failpoint("counted")
    failpoint("counted")
    with pytest.raises(OSError, match="space"):
        failpoint("counted")
    failpoint("counted")


def test_a_disk_that_is_full_stays_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, "full=enospc@2+")
    failpoint("full")
    for _ in range(2):
        with pytest.raises(OSError, match="space"):
            failpoint("full")


@pytest.mark.parametrize("wrong", ["here", "here=explode", "here=kill@x", "here=kill@+"])
def test_a_mistyped_request_is_no_silent_success(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    asked(monkeypatch, wrong)
    with pytest.raises(UsageError, match="PENCHANT_FAILPOINTS"):
        failpoint("here")


def test_a_kill_runs_no_handler() -> None:
    program = (
        "import atexit, os\nfrom penchant.failpoints import failpoint\natexit.register(print, 'handler')\n"
        "os.environ.update(PENCHANT_TEST='1', PENCHANT_FAILPOINTS='here=kill')\nfailpoint('here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""
