"""Libraries below print bars and advice of their own; Penchant speaks for itself."""

from __future__ import annotations

import os
import sys


def quiet_libraries() -> None:
    """Turn off the progress bars of all libraries and log lines below errors of transformers; no telemetry.

    tqdm draws the bars of transformers (also while it converts a GGUF file), datasets and the Hub client: carriage
    returns without end in a log.

    They read the environment when they are imported, and to import them here would cost commands on data, which do
    without, two seconds.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
