"""Writes trl_losses.json: what TRL's own trainers compute for the cases of `tests.oracles.trl_cases`.

    python -m tests.golden.make_trl_losses

Needs the extra `bench`. Every loss comes from `compute_loss` of a trainer that TRL built, on a batch that its own
collator made of the pairs' ids; nothing of TRL is written down again here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import tempfile
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "OMP_NUM_THREADS": "1"}

import torch
from datasets import Dataset
from tests.oracles.trl_cases import CASES, GOLDEN, MOVING, NAMED, PAIRS, Case, labelled
from tests.oracles.two_models import models
from tests.tiny import tiny_tokenizer

from penchant.types import TokenizedPair

ROWS = [{"prompt": "a b", "chosen": " c", "rejected": " d"}] * 2  # a trainer wants a data set; ids come later
LIBRARIES = ("trl", "torch", "transformers", "accelerate", "datasets")


def measure(case: Case) -> dict[str, Any]:
    """Return TRL's loss, its gradient norm, and its gradient of the weight `NAMED`, flattened."""
    trainer = _trainer(case)
    weights = dict(trainer.model.named_parameters())
    parts = _batches(trainer, case)
    loss = torch.stack([trainer.compute_loss(trainer.model, batch) for batch in parts]).mean()
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in weights.values() if p.grad is not None])
    gradient = weights[NAMED].grad
    return {"loss": loss.item(), "grad_norm": norm.item(), "gradient": gradient.flatten().tolist()}


def measure_logps() -> dict[str, list[float]]:
    """Return the log-probabilities of the pairs as DPOTrainer sums them, under both models."""
    case = CASES["sigmoid"]
    trainer = _trainer(case)
    (batch,) = _batches(trainer, case)
    found = {}
    for name, model in (("policy", trainer.model), ("reference", trainer.ref_model)):
        chosen, rejected = trainer.compute_ref_log_probs(model, batch)
        found |= {f"{name} chosen": chosen.tolist(), f"{name} rejected": rejected.tolist()}
    return found


def measure_moving() -> list[float]:
    """Return the losses of a run of DPOTrainer whose reference follows the policy, every step on all the pairs."""
    case = Case(
        "dpo",
        {
            "loss_type": ["sigmoid"],
            "beta": MOVING["beta"],
            "sync_ref_model": True,
            "ref_model_mixup_alpha": MOVING["share"],
            "ref_model_sync_steps": MOVING["every"],
            "max_steps": MOVING["steps"],
            "learning_rate": MOVING["learning_rate"],
            "lr_scheduler_type": "constant",
            "adam_epsilon": MOVING["epsilon"],
            "max_grad_norm": 0.0,
            "per_device_train_batch_size": len(PAIRS),
        },
        {},
    )
    trainer = _trainer(case, start_at_reference=True)
    trainer.train_dataset = Dataset.from_list([_row(pair) for pair in PAIRS])
    losses: list[float] = []
    plain = trainer.compute_loss

    def recorded(*options: Any, **named: Any) -> Any:
        loss = plain(*options, **named)
        losses.append(loss.item())
        return loss

    trainer.compute_loss = recorded
    trainer.train()
    return losses


def _trainer(case: Case, *, start_at_reference: bool = False) -> Any:
    module, name = {
        "dpo": ("trl", "DPO"),
        "kto": ("trl", "KTO"),
        "cpo": ("trl.experimental.cpo", "CPO"),
        "orpo": ("trl.experimental.orpo", "ORPO"),
    }[case.kind]
    library: Any = importlib.import_module(module)
    policy, reference = models()
    if start_at_reference:
        policy = models()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = getattr(library, f"{name}Config")(
            **{
                "output_dir": folder,
                "use_cpu": True,
                "bf16": False,
                "gradient_checkpointing": False,
                "report_to": "none",
                "save_strategy": "no",
                "disable_tqdm": True,
                "dataloader_pin_memory": False,
                **case.theirs,
            }
        )
        return getattr(library, f"{name}Trainer")(
            model=policy,
            args=options,
            train_dataset=Dataset.from_list(ROWS),
            processing_class=tiny_tokenizer(template=False),
            **({"ref_model": reference} if case.kind in ("dpo", "kto") else {}),
        )


def _batches(trainer: Any, case: Case) -> list[Any]:
    """What the trainer's collator makes of the pairs."""
    if case.kind == "kto":
        return [trainer.data_collator([_response_row(example) for example in labelled(case.pairs)])]
    rows = [_row(pair) if case.kind == "dpo" else _whole_row(pair) for pair in case.pairs]
    parts = [rows] if case.split == "together" else [[row] for row in rows]
    return [trainer.data_collator(part) for part in parts]


def _row(pair: TokenizedPair) -> dict[str, list[int]]:
    """As DPOTrainer's data set holds it."""
    ids = {"prompt_ids": pair.prompt_ids, "chosen_ids": pair.chosen_ids, "rejected_ids": pair.rejected_ids}
    return {name: list(values) for name, values in ids.items()}


def _response_row(example: TokenizedPair) -> dict[str, Any]:
    """As KTOTrainer's does."""
    return {
        "prompt_ids": list(example.prompt_ids),
        "completion_ids": list(example.chosen_ids),
        "KL_completion_ids": list(example.rejected_ids),
        "label": example.desirable,
    }


def _whole_row(pair: TokenizedPair) -> dict[str, list[int]]:
    """As those of CPOTrainer and ORPOTrainer do: whole sequences, and labels with -100 over the prompt."""
    prompt = list(pair.prompt_ids)
    row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for side, response in (("chosen", list(pair.chosen_ids)), ("rejected", list(pair.rejected_ids))):
        row[f"{side}_input_ids"] = prompt + response
        row[f"{side}_attention_mask"] = [1] * (len(prompt) + len(response))
        row[f"{side}_labels"] = [-100] * len(prompt) + response
    return row


def everything() -> dict[str, Any]:
    """Return all that is committed, but for the circumstances."""
    return {
        "logps": measure_logps(),
        "cases": {name: measure(case) for name, case in CASES.items()},
        "moving reference": measure_moving(),
    }


def circumstances() -> dict[str, str]:
    """Return what the numbers were measured with."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {
        **versions,
        "machine": f"{platform.machine()} cpu, fp32, one thread",
        "weights": "tests.oracles.two_models",
    }


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    golden = {
        "command": "python -m tests.golden.make_trl_losses",
        "circumstances": circumstances(),
        **everything(),
    }
    GOLDEN.write_text(one_line_a_case(golden), encoding="utf-8")


def one_line_a_case(golden: dict[str, Any]) -> str:
    """Return JSON of which a change shows which cases changed."""
    sections = []
    for name, value in golden.items():
        inner = value.items() if isinstance(value, dict) else ()
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in inner)
        sections.append(f" {json.dumps(name)}: " + (f"{{\n{lines}\n }}" if lines else json.dumps(value)))
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    main()
