"""Several processes for a test, as torchrun would start them: gloo, one thread each, on this machine.

They are forked by a server that has imported torch once, so a group costs a second and not ten.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

_PATIENCE_SECONDS = 120  # against hanging for ever; a group takes a few seconds
_PRELOADED = ["torch", "transformers", "torch.distributed.fsdp", "penchant.workflow.train", "tests.tiny"]


def in_processes(count: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """Return what `work(*args)`, a function of a module, gives in each of `count` processes that have joined.

    An error in one of them fails the test with its traceback, and ends the others.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {
        name: value for name, value in os.environ.items() if name.startswith(("PENCHANT_", "HF_", "OMP_"))
    }
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = []
    for rank, (_, end) in enumerate(pipes):
        variables = inherited | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        processes.append(context.Process(target=_one, args=(variables, end, work, args)))
    try:
        for process, (_, end) in zip(processes, pipes, strict=True):
            process.start()
            end.close()
        return [_result(start) for start, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _result(pipe: Connection) -> Any:
    if not pipe.poll(_PATIENCE_SECONDS):
        pytest.fail("a process did not end in time")
    try:
        fine, found = pipe.recv()
    except EOFError:
        pytest.fail("a process ended without a word")
    if not fine:
        pytest.fail(found)
    return found


def _one(variables: dict[str, str], pipe: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ.update(variables)
    import torch

    from penchant.processes import together

    torch.set_num_threads(1)
    try:
        with together():
            found = work(*args)
        pipe.send((True, found))
    except BaseException:
        pipe.send((False, f"process {variables['RANK']}:\n{traceback.format_exc()}"))
