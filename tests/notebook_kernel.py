"""A Jupyter kernel that has torch already: forked from the process that forks commands, to save seconds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jupyter_client.connect import write_connection_file
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from tests.warm import Warm


def serve() -> None:
    """Be a kernel until the client says that it is enough; called in the forked process."""
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance(["-f", sys.argv[1], "--HistoryManager.enabled=False"])
    sys.exit(0)


class _Running(AsyncKernelManager):
    """A kernel that somebody else has started."""

    @property
    def has_kernel(self) -> bool:
        return True

    async def is_alive(self) -> bool:
        return True


def execute(notebook: Any, warm: Warm, folder: Path, *, seconds: float = 120) -> None:
    """Run the cells of a notebook in a folder; their outputs are then in it.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    place, _ = write_connection_file(str(folder / "kernel.json"))
    pid = warm.start(place, cwd=folder, before="tests.notebook_kernel:serve")
    manager = _Running(connection_file=place)
    manager.load_connection_file()
    client = NotebookClient(notebook, km=manager, timeout=seconds, record_timing=False)
    try:
        client.execute()
    finally:
        if client.kc is not None:
            client.kc.shutdown()
            client.kc.stop_channels()
        warm.wait(pid)
