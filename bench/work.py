"""One piece of work that both sides do: which rows, what is trained, in what precision, in what order.

Learning rate, schedule, AdamW and clipping are the same on both sides: constant rate, betas 0.9 and 0.95,
epsilon 1e-8, no weight decay, gradient norm at most 1.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.rows import MAX_TOKENS

from penchant.batching.packing import epoch_order
from penchant.config import Config, build_config
from penchant.types import TokenizedPair

BETA = 0.1
SEED = 0
LORA_RANK, LORA_ALPHA = 16, 32
LEARNING_RATES = {"last5": 6e-5, "lora": 1e-4, "full": 5e-6}


@dataclass(frozen=True)
class Work:
    """What is done once.

    Attributes:
        model: Directory of the model.
        rows: File of the pairs.
        ids: File of the same pairs as token ids, see `write_ids`.
        part: What is trained: the last five layers, final norm and an untied head; LoRA on every linear layer of
            the decoder; or everything, the head tied.
        dtype: fp32, or bf16 matrix products over fp32 weights.
        epochs: Passes over the rows.
        batch: Pairs a step.
    """

    model: str
    rows: str
    ids: str
    part: str
    dtype: str
    epochs: int
    batch: int

    def to_json(self) -> str:
        """Return the work as a command line carries it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Work:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))

    def config(self) -> Config:
        """Return Penchant's configuration."""
        model: dict[str, Any] = {"path": self.model}
        if self.part == "last5":
            model["last_layers"] = 5
        if self.part == "lora":
            model |= {"lora_rank": LORA_RANK, "lora_alpha": LORA_ALPHA}
        return build_config(
            {
                "model": model,
                "data": {"max_tokens": MAX_TOKENS},
                "objective": {"loss": "dpo", "beta": BETA},
                "train": {
                    "epochs": self.epochs,
                    "batch_pairs": self.batch,
                    "learning_rate": LEARNING_RATES[self.part],
                    "warmup_fraction": 0,
                    "schedule": "constant",
                    "seed": SEED,
                },
                "engine": {"device": "cpu", "precision": self.dtype},
            }
        )


def write_ids(path: Path, pairs: Sequence[TokenizedPair]) -> None:
    """Write prompts and responses as token ids, the names those that TRL's collator reads."""
    rows = [
        {"prompt_ids": p.prompt_ids, "chosen_ids": p.chosen_ids, "rejected_ids": p.rejected_ids} for p in pairs
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")


def read_ids(work: Work, mode: str) -> list[dict[str, list[int]]]:
    """Return what `write_ids` wrote, longest pair first for a peer that may choose its own order ("tuned")."""
    rows = json.loads(Path(work.ids).read_text(encoding="utf-8"))
    return sorted(rows, key=_longest_side, reverse=True) if mode == "tuned" else rows


def orders(count: int, mode: str, epochs: int) -> list[list[int]]:
    """Return the order of the rows in each epoch: Penchant's own, or as they stand when the peer chooses."""
    if mode == "tuned":
        return [list(range(count))] * epochs
    return [epoch_order(count, seed=SEED, epoch=epoch) for epoch in range(epochs)]


def expected_digests(work: Work, mode: str) -> list[str]:
    """Return the digest of every batch that a peer should see, see `batch_digest`."""
    rows = read_ids(work, mode)
    order = [index for epoch in orders(len(rows), mode, work.epochs) for index in epoch]
    digests = []
    for start in range(0, len(order), work.batch):
        batch = [rows[index] for index in order[start : start + work.batch]]
        sequences = [
            (row["prompt_ids"] + row[side], [0] * len(row["prompt_ids"]) + [1] * len(row[side]))
            for side in ("chosen_ids", "rejected_ids")
            for row in batch
        ]
        digests.append(batch_digest(sequences))
    return digests


def batch_digest(sequences: Iterable[tuple[list[int], list[int]]]) -> str:
    """Return a digest of (ids, whether each is scored), chosen sequences first, then rejected ones."""
    return hashlib.sha256(json.dumps([[ids, scored] for ids, scored in sequences]).encode()).hexdigest()[:16]


def peak_bytes() -> int:
    """Return the most resident memory that this process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if not found:
        raise SystemExit("peak memory is read from /proc/self/status, which is not here")
    return int(found.group(1)) * 1024


def _longest_side(row: dict[str, list[int]]) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
