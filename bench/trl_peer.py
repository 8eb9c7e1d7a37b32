"""One timed run of TRL's DPOTrainer in a process of its own: prints one JSON object.

    python -m bench.trl_peer WORK_AS_JSON MODE

The modes: `default`, as TRL comes (gradient checkpointing, reference model in every step); `plain`, without
gradient checkpointing; `precomputed`, with the reference's log-probabilities computed once before; `tuned`, the
same with the rows in order of length, so that nearly nothing is padded. The rows come as token ids, the very ones
that Penchant trains on, so TRL's own tokenising is left out. What reaches the model is recorded, to be compared.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}

import torch
from bench.rows import MAX_TOKENS
from bench.work import (
    BETA,
    LEARNING_RATES,
    LORA_ALPHA,
    LORA_RANK,
    SEED,
    Work,
    batch_digest,
    orders,
    peak_bytes,
    read_ids,
)
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import TrainerCallback

from penchant.models.freeze import choose_trainable
from penchant.models.load import load_model

trl: Any = importlib.import_module("trl")  # by name: `make bench` installs it, `make env` does not


class InOrder(Sampler[int]):
    """Gives the rows of each epoch in a stated order."""

    def __init__(self, epochs: list[list[int]]) -> None:
        self.epochs = epochs
        self.left = iter(epochs)

    def __iter__(self) -> Iterator[int]:
        return iter(next(self.left))

    def __len__(self) -> int:
        return len(self.epochs[0])


class Recorded(trl.DPOTrainer):
    """DPOTrainer fed with token ids in a stated order, which keeps what a log would round."""

    def __init__(self, *, epochs: list[list[int]], **options: Any) -> None:
        self.epochs = epochs
        self.losses: list[torch.Tensor] = []
        self.batches: list[dict[str, torch.Tensor]] = []
        self.precompute_seconds = 0.0
        super().__init__(**options)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # ids already

    def _get_train_sampler(self, *_: Any) -> InOrder:
        return InOrder(self.epochs)

    def _precompute_ref_logps(self, *options: Any) -> Any:
        started = time.perf_counter()
        dataset = super()._precompute_ref_logps(*options)
        self.precompute_seconds += time.perf_counter() - started
        return dataset

    def compute_loss(self, model: Any, inputs: Any, *options: Any, **named: Any) -> Any:
        """Keep the batch and its loss."""
        self.batches.append(inputs)
        loss = super().compute_loss(model, inputs, *options, **named)
        self.losses.append(loss.detach())
        return loss


class StepClock(TrainerCallback):
    """Notes when training begins and when each optimizer step is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.times.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the end of a step."""
        self.times.append(time.perf_counter())


def arguments(work: Work, mode: str, folder: str) -> Any:
    """Return TRL's configuration of the work; what is not named stays as TRL has it."""
    own = {} if mode == "default" else {"gradient_checkpointing": False}
    if mode in ("precomputed", "tuned"):
        own["precompute_ref_log_probs"] = True
    return trl.DPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=work.dtype == "bf16",
        num_train_epochs=work.epochs,
        per_device_train_batch_size=work.batch,
        max_length=MAX_TOKENS,
        beta=BETA,
        learning_rate=LEARNING_RATES[work.part],
        lr_scheduler_type="constant",
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=SEED,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **own,
    )


def adapters(part: str) -> Any:
    """Return peft's configuration of LoRA on every linear layer of the decoder, or None."""
    if part != "lora":
        return None
    peft: Any = importlib.import_module("peft")
    return peft.LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def run(work: Work, mode: str) -> dict[str, Any]:
    """Train once; return what it took and came to. `train_seconds` counts the precomputed reference, if any."""
    loaded = load_model(work.model)
    if work.part != "lora":
        choose_trainable(loaded.model, 5 if work.part == "last5" else None)
    rows = read_ids(work, mode)
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Recorded(
            epochs=orders(len(rows), mode, work.epochs),
            model=loaded.model.train(),
            args=arguments(work, mode, folder),
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=adapters(work.part),
            callbacks=[clock],
        )
        trainer.train()
    steps = [end - start for start, end in zip(clock.times, clock.times[1:], strict=False)]
    return {
        "step_seconds": steps,
        "losses": [float(loss) for loss in trainer.losses],
        "reference_seconds": trainer.precompute_seconds,
        "train_seconds": trainer.precompute_seconds + sum(steps),
        "trained_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "batches": [_digest(batch) for batch in trainer.batches],
        "padded_tokens": sum(batch["input_ids"].numel() for batch in trainer.batches),
        "settings": {
            name: str(getattr(trainer.args, name))
            for name in ("gradient_checkpointing", "precompute_ref_log_probs", "bf16", "optim", "max_length")
        },
        "peak_bytes": peak_bytes(),
    }


def _digest(batch: dict[str, torch.Tensor]) -> str:
    rows = zip(batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"], strict=True)
    return batch_digest((ids[real].tolist(), scored[real].tolist()) for ids, real, scored in rows)


if __name__ == "__main__":
    print(json.dumps(run(Work.from_json(sys.argv[1]), sys.argv[2])))
