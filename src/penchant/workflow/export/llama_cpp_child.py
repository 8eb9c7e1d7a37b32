"""llama.cpp's server in a process of its own, so that a defect in it ends that process and not the export.

Run as `python -m`: settings come as one line of JSON on standard input, the server's address goes out as one line
of JSON, and the end of standard input, which comes also when the parent is killed, ends it.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    """Serve one GGUF file on loopback until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what llama.cpp prints belongs with its errors, not between our lines
    server = _serve(json.loads(sys.stdin.readline()))  # serves as long as it is held
    print(json.dumps({"address": server.listening_address}), file=answers, flush=True)
    sys.stdin.read()


def _serve(settings: dict[str, Any]) -> Any:
    xllamacpp = import_module("xllamacpp")  # an extra
    params = xllamacpp.CommonParams()
    params.model.path = settings["file"]
    params.n_ctx = settings["context"]
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_parallel = 1
    params.warmup = params.ui = False
    params.verbosity = 0  # errors alone
    params.api_keys = [settings["key"]]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
