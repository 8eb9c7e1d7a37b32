"""Whole runs of DPO that TRL's trainer and ours take with the same script, import and all else equal."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from tests.tiny import pair_rows, save_tiny, tiny_llama, tiny_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "trl_courses.json"
NOT_OURS = ("entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected", "total_flos", "num_tokens")
TIMES = ("runtime", "samples_per_second", "steps_per_second")


@dataclass(frozen=True)
class Course:
    """What a script says.

    Attributes:
        rows: "implicit" (two conversations), "messages" (a prompt of its own) or "text".
        options: Of DPOConfig.
        held_out: Rows to validate on.
        objects: Whether model, another reference and tokenizer are given as objects.
    """

    rows: str
    options: dict[str, Any] = field(default_factory=dict)
    held_out: int = 0
    objects: bool = False


COURSES = {
    "chat": Course(
        "implicit",
        {"per_device_train_batch_size": 4, "logging_steps": 1, "eval_strategy": "epoch", "save_strategy": "no"},
        held_out=4,  # one batch, or TRL's rewards would be means of means
    ),
    "text": Course(
        "text",
        {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "num_train_epochs": 2,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.25,
            "logging_steps": 3,
            "logging_first_step": True,
            "max_length": 48,
            "loss_type": ["sigmoid", "hinge"],
            "loss_weights": [1.0, 0.5],
            "save_strategy": "epoch",
        },
    ),
    "reference": Course(
        "messages",
        {
            "per_device_train_batch_size": 5,
            "max_steps": 7,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 2,
            "logging_strategy": "epoch",
            "loss_type": "ipo",
            "beta": 0.5,
            "data_seed": 5,
            "max_grad_norm": 0.5,
        },
        objects=True,
    ),
}


def rows_of(kind: str, count: int = 14, seed: int = 0) -> list[dict[str, Any]]:
    """Fourteen rows, so that no batch size here divides them."""

    def message(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    found: list[dict[str, Any]] = []
    for row in pair_rows(count, seed=seed):
        prompt, chosen, rejected = (str(row[name]) for name in ("prompt", "chosen", "rejected"))
        if kind == "text":
            found.append({"prompt": f"{prompt}: ", "chosen": chosen, "rejected": rejected})
            continue
        asked = message("user", prompt)
        sides = {"chosen": message("assistant", chosen), "rejected": message("assistant", rejected)}
        if kind == "implicit":
            found.append({name: asked + side for name, side in sides.items()})
        else:
            found.append({"prompt": asked, **sides})
    return found


def trainer_of(library: Any, course: Course, folder: Path) -> Any:
    """A trainer of TRL's or of `penchant.integrations.trl`, its output in a folder."""
    args = library.DPOConfig(
        output_dir=str(folder / "out"),
        **{"learning_rate": 1e-3, "bf16": False, "use_cpu": True, "report_to": "none", "disable_tqdm": True},
        **course.options,
    )
    start = tiny_llama(layers=2)
    model: Any = str(save_tiny(folder / "start", start))
    given: dict[str, Any] = {}
    if course.objects:
        model = start
        given = {"ref_model": tiny_llama(layers=2, seed=7), "processing_class": tiny_tokenizer()}
    if course.held_out:
        given["eval_dataset"] = Dataset.from_list(rows_of(course.rows, course.held_out, seed=1))
    return library.DPOTrainer(
        model=model, args=args, train_dataset=Dataset.from_list(rows_of(course.rows)), **given
    )


def logged(trainer: Any) -> list[dict[str, float]]:
    """What a trainer logged, without times and without what only TRL logs."""
    return [
        {name: value for name, value in line.items() if not _left_out(name)} for line in trainer.state.log_history
    ]


def _left_out(name: str) -> bool:
    if name == "num_tokens":
        return False
    return name.removeprefix("eval_") in NOT_OURS or name.endswith(TIMES)
