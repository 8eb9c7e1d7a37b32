"""Limits on chat templates: a template is a program that came with a model, so it may only use so much.

transformers renders it in Jinja's sandbox, which keeps it from Python's internals but lets it loop and grow for as
long as it likes. Three limits are added here:

* **Before it runs**, what Jinja would work out while compiling (`'x' * 10**9`, `9 ** 9 ** 9`) is refused: a single
  operation of C code cannot be interrupted afterwards.
* **While it runs**, processor time and memory. A watching thread looks at the renderings in progress and raises an
  exception inside the one that goes on too long. It costs a rendering a few microseconds, works in any
  thread and in notebooks, and needs no signal handler (main thread only), no tracing (slows each line, and takes
  the place of debuggers and coverage) and no child process (a second to start, and a round trip for every row).
  Time is that of the rendering thread's processor, so a machine that is busy or asleep fails no template. The
  thread ends itself when nothing has been rendered for a while.
* **After it ran**, the length of what it printed.

What is left: one operation that asks for more memory than the machine has ends in a MemoryError or, where the
system promises more than it has, in the process being killed. It runs no code.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension

from penchant.errors import ModelError

MAX_TEMPLATE_CHARACTERS = 1_000_000
MAX_RENDERED_CHARACTERS = 64 * 2**20
MAX_SECONDS = 5.0
"""Of processor time for one rendering; an ordinary one takes less than a millisecond."""
MAX_GROWTH_BYTES = 2**30

_MAX_CONSTANT = 1_000_000
_POLL_SECONDS = 0.1
_IDLE_POLLS = 50
_HINT = (
    "The template that came with this model cannot be trusted. Use another model, or --set data.format=transcript."
)


class _OverLimitError(BaseException):
    """Raised inside a rendering by the watching thread. No `except Exception` on the way may catch it."""


class _GenerationTag(Extension):
    """The tag that transformers adds to the language, as far as reading it goes."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Rendering:
    """One rendering in progress, as its thread and the watching one see it."""

    __slots__ = ("grew_from", "over", "thread", "used_before")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.used_before: float | None = None
        self.grew_from = 0
        self.over = ""


class _Watch:
    """Looks at the renderings in progress, a few times a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: dict[int, _Rendering] = {}
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[[], str]) -> str:
        """Return what `work` returns, or raise ModelError when it uses too much."""
        rendering = _Rendering()
        try:
            try:
                self._active[rendering.thread] = rendering
                if self._thread is None or not self._thread.is_alive():
                    self._start()
                return work()
            finally:
                self._leave(rendering)
                if rendering.over:  # the exception may still be on its way: it is to arrive here
                    time.sleep(_POLL_SECONDS)
        except _OverLimitError:
            self._leave(rendering)
        raise ModelError(f"the chat template {rendering.over} for one conversation", fix=_HINT)

    def forget(self) -> None:
        """Begin anew, as in a child process."""
        self._lock = threading.Lock()
        self._active = {}
        self._thread = None

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="chat-template-limits", daemon=True)
                self._thread.start()

    def _leave(self, rendering: _Rendering) -> None:
        with self._lock:  # whoever holds it knows that the rendering's thread is still in it
            if self._active.get(rendering.thread) is rendering:
                del self._active[rendering.thread]

    def _look(self) -> None:
        idle = 0
        while idle < _IDLE_POLLS:
            time.sleep(_POLL_SECONDS)
            with self._lock:
                renderings = list(self._active.values())
                for rendering in renderings:
                    self._judge(rendering)
            idle = 0 if renderings else idle + 1

    def _judge(self, rendering: _Rendering) -> None:
        used, memory = _thread_seconds(rendering.thread), _resident_bytes()
        if rendering.used_before is None:
            rendering.used_before, rendering.grew_from = used, memory
            return
        if used - rendering.used_before > MAX_SECONDS:
            rendering.over = f"took more than {MAX_SECONDS:.0f} seconds"
        elif memory - rendering.grew_from > MAX_GROWTH_BYTES:
            rendering.over = f"took more than {MAX_GROWTH_BYTES / 2**30:.0f} GiB of memory"
        if rendering.over:  # each time: an exception that arrives inside a destructor is lost
            _raise_in(rendering.thread)


_WATCH = _Watch()
if hasattr(os, "register_at_fork"):  # the child has no such thread, and may have got the lock in a locked state
    os.register_at_fork(after_in_child=_WATCH.forget)


def _thread_seconds(thread: int) -> float:
    """Processor seconds of a thread that is known to live; seconds of the clock where the system cannot tell."""
    if hasattr(time, "pthread_getcpuclockid"):
        return time.clock_gettime(time.pthread_getcpuclockid(thread))
    return time.monotonic()


def _resident_bytes() -> int:
    """What this process holds in memory, where the system tells that cheaply; else 0."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_OverLimitError))


def render_within_limits(render: Callable[[], str]) -> str:
    """Return what `render` returns.

    Raises:
        ModelError: It used too much time or memory, or printed too much.
    """
    text = _WATCH.run(render)
    if len(text) > MAX_RENDERED_CHARACTERS:
        raise ModelError(
            f"the chat template printed more than {MAX_RENDERED_CHARACTERS:,} characters for one conversation",
            fix=_HINT,
        )
    return text


@functools.lru_cache
def check_template(template: str) -> None:
    """Accept a template whose compilation is cheap.

    Raises:
        ModelError: It is no Jinja, is too long, uses the power operator, or has a constant expression whose value
            would be large: Jinja works those out before the first rendering.
    """
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise ModelError(f"the chat template has more than {MAX_TEMPLATE_CHARACTERS:,} characters", fix=_HINT)
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols", _GenerationTag]).parse(template)
    except (TemplateSyntaxError, RecursionError) as error:
        raise ModelError(f"the chat template cannot be read ({error})", fix=_HINT) from error
    if tree.find(nodes.Pow):
        raise ModelError("the chat template uses the power operator **, which knows no bounds", fix=_HINT)
    for kind in (nodes.Mul, nodes.Mod, nodes.Concat, nodes.Filter, nodes.Call):
        for node in tree.find_all(kind):
            if not node.find(nodes.Name) and _weight(node) > _MAX_CONSTANT:
                raise ModelError("a constant of the chat template would be too large", fix=_HINT)


def _weight(node: nodes.Node) -> int:
    """A bound on the size of a constant expression: the product of its numbers and lengths."""
    product = 1
    for constant in node.find_all(nodes.Const):
        value = constant.value
        if isinstance(value, str):
            product *= max(1, len(value), *(int(digits) for digits in _numbers(value)))
        elif isinstance(value, (int, float)):
            product *= max(1, int(min(abs(value), _MAX_CONSTANT + 1)))
        if product > _MAX_CONSTANT:
            break
    return product


def _numbers(text: str) -> list[str]:
    """The numbers in a text, such as the width in a format; a longer one than any bound is cut."""
    digits = "".join(char if "0" <= char <= "9" else " " for char in text)
    return [number[:9] for number in digits.split()]
