"""The process that sends a run to one tracker: `python -m penchant.workflow.tracking.child RUN TRACKER`.

It ends when its standard input does: when whoever started it closes that, or is killed, it sends the rest first.
On its standard output it says what becomes of it, a JSON object a line. What the tracker's package prints goes to
`tracking/TRACKER.log`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from penchant.workflow.tracking.ledger import FOLDER, alone
from penchant.workflow.tracking.send import Sender, follow
from penchant.workflow.tracking.tracker import opener

LAST_SECONDS = 120  # after the run's end or its process's death; a server that is down is not waited for longer
_LOOK_SECONDS = 1.0
_LONGEST = 300  # characters of an error
_SECRETS = ("WANDB_API_KEY", "HF_TOKEN", "TRACKIO_WRITE_TOKEN", "TRACKIO_SERVER_URL", "TRACKIO_WEBHOOK_URL")


def main() -> None:
    """Send until standard input ends."""
    run, tracker, parent = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # they are for the run; its end is this one's
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    (run / FOLDER).mkdir(exist_ok=True)
    said = _own_output(run / FOLDER / f"{tracker}.log")
    with contextlib.suppress(
        BrokenPipeError
    ):  # whoever started this is gone, and the figures are sent all the same
        _send(run, tracker, lambda: _is_over(parent), said)


def _send(run: Path, tracker: str, wait: Callable[[], bool], said: TextIO) -> None:
    def say(**event: object) -> None:
        print(json.dumps(event), file=said, flush=True)

    sender = None
    try:
        with alone(run, tracker) as free:
            if not free:
                say(failed="another process is sending this run there")
                return
            sender = Sender(run, tracker, opener(tracker))
            follow(sender, wait)
    except BrokenPipeError:
        raise
    except Exception as error:  # packages of others, servers, disks: none of it is the run's concern
        say(failed=_told(error))
        return
    say(records=sender.sent.records, name=sender.sent.name, look=sender.sent.look)


def _is_over(parent: int) -> bool:
    """Wait a little; whether the run is over, or its process is gone."""
    readable, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
    over = bool(readable) or os.getppid() != parent
    if over:
        last = threading.Timer(LAST_SECONDS, os._exit, [1])
        last.daemon = True
        last.start()
    return over


def _own_output(log: Path) -> TextIO:
    """Return standard output for this process's own words; from here on packages print to a file."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    return own


def _told(error: Exception) -> str:
    """What went wrong in one line, without the keys that a package may have put into its message."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    for name in _SECRETS:
        if value := os.environ.get(name):
            text = text.replace(value, f"${name}")
    return text[:_LONGEST]


if __name__ == "__main__":
    main()
