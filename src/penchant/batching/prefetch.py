"""Work done some items ahead on a thread, so that what consumes the results need not wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_END: Any = object()


def prefetched(make: Callable[[Item], Made], items: Iterable[Item], ahead: int = 1) -> Generator[Made, None, None]:
    """Return a generator of `make(item)` for each item, in order, made on one thread while the consumer is busy.

    Nothing is made before the first result is asked for. What `make` or the iteration of `items` raises is raised
    in the place of that result, and ends the generator. When it is closed or dropped, which a consumer's own error
    does too, what is under way is finished, what waits is given up, and the thread has ended.

    Args:
        make: Runs on the thread, one item at a time.
        items: Iterated on the thread too.
        ahead: Results made before they are asked for, at most; 0 makes each when it is, without a thread.

    Raises:
        ValueError: `ahead` is negative.
    """
    if ahead < 0:
        raise ValueError(f"ahead = {ahead} is negative")
    return _made_ahead(make, items, ahead) if ahead else (make(item) for item in items)


def _made_ahead(make: Callable[[Item], Made], items: Iterable[Item], ahead: int) -> Generator[Made, None, None]:
    left = iter(items)

    def one() -> Made:
        item = next(left, _END)
        return _END if item is _END else make(item)

    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        while True:
            while len(waiting) <= ahead:
                waiting.append(pool.submit(one))
            made = waiting.popleft().result()
            if made is _END:
                return
            yield made
            del made  # or it would live until the next one is there
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
