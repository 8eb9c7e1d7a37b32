"""One process at a time in a run directory.

`run.lock` says who works there, and the operating system holds it (flock) for as long as that process lives: a
lock whose process is dead is free, whatever the file says. Where a file system has no such locks, the existence of
a file beside it, `run.lock.owner`, is the lock, and whether its process lives is asked of this machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from penchant.data.atomic import disk_errors
from penchant.errors import UsageError

LOCK_FILE = "run.lock"
_OWNER = "run.lock.owner"  # the lock where there is no flock
_TAKING_OVER = "run.lock.taken"  # held for a moment by who replaces the owner that is dead
_NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass(frozen=True)
class Holder:
    """Who works in a run directory.

    Attributes:
        pid: Process id.
        host: Name of the machine.
        since: When the lock was taken, UTC; for people, nothing is decided by it.
        boot: Which start of the machine, "" where the system does not tell.
        born: When the process started, in the system's ticks; "" where it does not tell. A pid may be used again.
    """

    pid: int
    host: str
    since: str
    boot: str
    born: str


@contextlib.contextmanager
def run_lock(run: Path, note: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the lock of a run directory, which is made if it is not there; that of a dead process is taken over.

    Args:
        run: The run directory.
        note: Hears one line about a lock that was taken over.

    Raises:
        UsageError: A process that lives, or one of another machine, works there; it is named.
        DiskError: There is no room or no permission to write there.
    """
    path = run / LOCK_FILE
    with disk_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
    try:
        if descriptor is None:
            path = run / _OWNER
            _hold_by_file(path, note)
        else:
            _hold_open_file(path, descriptor, note)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)  # before it is let go of: who opens it from here on finds another file, or none
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened(path: Path) -> int | None:
    """The lock file, locked by this process; None where the file system knows no locks.

    Raises:
        UsageError: Another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _refusal(path, _read(path)) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_FLOCK:
                return None
            raise
        os.close(descriptor)  # its holder ended and removed it between the two calls


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _hold_open_file(path: Path, descriptor: int, note: Callable[[str], None]) -> None:
    """Write who holds the lock, unless a process of another machine says that it does: its life cannot be seen."""
    before = _read(path)
    if before is not None:
        if _is_elsewhere(before):
            raise _elsewhere(path, before)
        note(_taken_over(before))
    with disk_errors(path):
        text = _as_text(_myself())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
        os.fsync(descriptor)


def _hold_by_file(path: Path, note: Callable[[str], None]) -> None:
    """Make the file of the owner, which only one process can; that of a dead one is replaced, by only one too."""
    if _made(path):
        return
    before = _read(path)
    if before is None:
        raise _refusal(path, None)
    if _is_elsewhere(before):
        raise _elsewhere(path, before)
    if not _is_dead(before):
        raise _refusal(path, before)
    aside = path.with_name(_TAKING_OVER)
    if not _made(aside):
        raise _refusal(aside, None)
    try:
        if _read(path) != before:  # another took it over before this one had the right to
            raise _refusal(path, _read(path))
        with disk_errors(path):
            os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)
    note(_taken_over(before))


def _made(path: Path) -> bool:
    """Whether this process made the file, with itself as the holder; False when it was there."""
    with disk_errors(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, _as_text(_myself()))
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)
    return True


def _myself() -> Holder:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Holder(os.getpid(), socket.gethostname(), now, _boot(), _born(os.getpid()))


def _as_text(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder)) + "\n").encode()


def _read(path: Path) -> Holder | None:
    """Who holds a lock by its file; None when it does not say, as while it is being written."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _born(pid: int) -> str:
    """The start of a process; "" when none of this id runs, or the system does not tell."""
    with contextlib.suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = stat.rpartition(")")[2].split()  # the name before, in brackets, may hold anything
        return "" if state in "ZX" else fields[18]  # a zombie has ended, though nobody asked it how
    return ""


def _is_elsewhere(holder: Holder) -> bool:
    """Whether it is of another machine: containers of one machine have names of their own, but one start of it."""
    same_start = holder.boot != "" and holder.boot == _boot()
    return not same_start and holder.host != socket.gethostname()


def _is_dead(holder: Holder) -> bool:
    """Whether a process of this machine has ended."""
    if holder.boot != _boot():
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _born(holder.pid) != holder.born


def _taken_over(holder: Holder) -> str:
    return f"Taking over the lock of process {holder.pid} on {holder.host}, which began {holder.since} and is dead"


def _refusal(path: Path, holder: Holder | None) -> UsageError:
    if holder is None:
        who = "another process, which has not said yet which one"
        fix = f"Wait for it, or choose another --out. If no process runs there, remove {path}."
    else:
        who = f"process {holder.pid} on {holder.host}, since {holder.since}"
        fix = f"Wait for it or end it (kill {holder.pid}), or choose another --out."
        if not _is_elsewhere(holder) and _is_dead(holder):
            who += "; it is dead, but a process that it started lives"
            fix = f"End that (fuser {path} names it), or choose another --out."
    return UsageError(f"the run directory is in use by {who}", where=str(path.parent), fix=fix)


def _elsewhere(path: Path, holder: Holder) -> UsageError:
    return UsageError(
        f"the run directory is in use by process {holder.pid} on {holder.host}, since {holder.since}; "
        "whether it lives cannot be seen from this machine",
        where=str(path.parent),
        fix=f"Look there. If it is gone, remove {path} and start again.",
    )
