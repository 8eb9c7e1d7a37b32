"""Libraries below print bars and advice of their own; Penchant speaks for itself."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Turn off progress bars and log lines below errors of transformers and the Hub client; no telemetry."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
