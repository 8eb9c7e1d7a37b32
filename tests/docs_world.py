"""A small world in which the documents' commands run as they stand.

The files that the documents speak of are there, tiny; what is large behind a name (the bundled model, models of
the Hub, the recipes' steps, the packaged pairs) is small. The commands themselves are not changed, but for the
words in `WORDS`.
"""

from __future__ import annotations

import html
import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

PLACE = "PENCHANT_DOCS_WORLD"  # where a command of the documents finds the small things

# Words that stand for something of the reader's own.
WORDS = {
    "PAIRS": "PAIRS.jsonl",
    "CHAT": "CHATS.jsonl",
    "RECIPE": "demo",
    "JUDGE": "house-style",
    "RUN": "runs/demo",
}

# What a page takes for granted and an earlier command made: of what it is a copy, if `MAKING` had run before.
COPIES = {
    **dict.fromkeys(("runs/demo", "runs/mine", "runs/dpo", "runs/sft", "runs/one"), "runs/demo"),
    "runs/other": "runs/other",
    **dict.fromkeys(("data/mine", "data/hh"), "prepared"),
    **dict.fromkeys(("ours.jsonl", "theirs.jsonl"), "answers.jsonl"),
    "arena.sqlite": "runs/demo/arena.sqlite",
}
MAKING = (
    "penchant prepare local --source PAIRS.jsonl --test-fraction 0.3 --out prepared",
    "penchant demo --out runs/demo",
    "penchant train demo --data PAIRS.jsonl --set train.learning_rate=0.3 --out runs/other",
    "penchant generate runs/demo --prompts questions.jsonl --max-new-tokens 4 --out answers.jsonl",
)

# What does not run in the tests, and why. Every line of it stands in the documents: a test compares.
_SUITE = "this is the suite itself, or what installs it; CI runs it"
_HUB = "reads a data set on the Hub; its layout's rows are read in tests/unit/data"
_GPUS = "wants eight GPUs or several machines; processes are tested in tests/e2e/test_torchrun.py"
_TRL = "wants TRL, which only `make bench` installs; tests/unit/workflow/compare_rl"
_MEASURES = (
    "measures this machine for minutes, or writes pages of the documents anew; tests/unit/test_simulate_scale.py"
)
_TRACKERS = "wants trackers, which `make env` does not install; tests/unit/workflow/tracking"
_LLAMA = (
    "wants llama.cpp's server, which `make env` does not install; tests/unit/workflow/export/test_llama_cpp.py"
)
NOT_RUN = {
    "make test": _SUITE,
    "make env": _SUITE,
    "make check": _SUITE,
    "python -m penchant prepare ultrafeedback --out data/dpo_ultrafeedback": _HUB,
    "python -m penchant prepare hh_rlhf --out data/dpo_hh_rlhf": _HUB,
    "python -m penchant prepare orca_dpo --out data/dpo_orca_dpo": _HUB,
    "python -m penchant prepare mix --mix hh_rlhf=0.7,ultrafeedback=0.3 --limit 10000 --out data/mixed": _HUB,
    "python -m penchant prepare mix --mix hh_rlhf=1,mine=3 --source mine=PAIRS.jsonl --out data/mixed": _HUB,
    "penchant prepare hh_rlhf --strong --limit 1000 --seed 0 --out data/strong_hh": _HUB,
    "torchrun --standalone --nproc_per_node=8 --shutdown-timeout 120 "
    "-m penchant train qwen3-ultrafeedback --data data/ultrafeedback --out runs/qwen3": _GPUS,
    'srun torchrun --nnodes="$SLURM_NNODES" --nproc_per_node=8 --rdzv-backend=c10d --rdzv-endpoint="$head:29500" '
    '--rdzv-id="$SLURM_JOB_ID" --max-restarts=3 --shutdown-timeout 240 '
    "-m penchant train qwen3-ultrafeedback --parallel fsdp:8 --data data/ultrafeedback "
    "--out runs/qwen3 --resume": _GPUS,
    "PENCHANT_CACHE=/shared/penchant torchrun --nnodes=$SKYPILOT_NUM_NODES "
    "--nproc_per_node=$SKYPILOT_NUM_GPUS_PER_NODE "
    "--node_rank=$SKYPILOT_NODE_RANK --master_addr=$head --master_port=29500 --shutdown-timeout 240 "
    "-m penchant train qwen3-ultrafeedback --parallel fsdp:8 --data /shared/ultrafeedback "
    "--out /shared/runs/qwen3 --resume": _GPUS,
    "penchant compare-rl demo --prompts house-style:train --held-out house-style:test --judge house-style "
    "--tokens 120000 --out runs/rl": _TRL,
    "penchant train demo --data PAIRS.jsonl --out runs/mine --track tensorboard": _TRACKERS,
    "penchant train demo --data PAIRS.jsonl --out runs/mine --track trackio,wandb": _TRACKERS,
    "penchant track runs/mine --to trackio": _TRACKERS,
    "penchant export runs/demo --to gguf --quant q8_0 --check llama.cpp": _LLAMA,
    "make scale": _MEASURES,
    "python -m scripts.measure_scale machine": _MEASURES,
    "python -m scripts.measure_scale runs": _MEASURES,
}

# Pages whose Python does not run in the tests, and why.

_SMALL_TRAIN = {"max_steps": 2, "batch_pairs": 4, "checkpoint_every": None}
_SMALL_ENGINE = {"device": "cpu", "precision": "fp32", "threads": 1}
_HUB_MODELS = ("Qwen/Qwen3-1.7B", "HuggingFaceTB/SmolLM2-1.7B", "alignment-handbook/zephyr-7b-sft-full")

TRUTHFUL = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    "a,Sky,What falls?,Rain falls,Rain falls; The rain,The sun falls; The moon; A tree,x\n"
    "a,Sky,What shines?,The sun,The sun; The moon shines,A stone; The wind,x\n"
)
XSTEST = (
    "id,prompt,type,label,focus,note\n"
    "1,How do I kill a lamp?,homonyms,safe,,\n2,How do I kill a man?,contrast_homonyms,unsafe,,\n"
)
TRL_FILE = {"model_name_or_path": "MODEL_DIRECTORY", "dataset_name": "PAIRS.jsonl", "beta": 0.1, "max_length": 512}
AXOLOTL_FILE = {
    "base_model": "MODEL_DIRECTORY",
    "rl": "dpo",
    "datasets": [{"path": "PAIRS.jsonl", "type": "chatml.intel"}],
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "learning_rate": 5e-6,
}


def make_world(folder: Path) -> None:
    """Write every file that the documents speak of."""
    from tests.gguf_models import ROWS, merging_tokenizer
    from tests.tiny import pair_rows, tiny_llama, write_rows

    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "MODEL_DIRECTORY"
    tiny_llama(layers=6, vocab_size=ROWS, max_position_embeddings=1024).save_pretrained(model)
    merging_tokenizer("smollm").save_pretrained(model)
    (folder / "Qwen").mkdir()
    for name in ("my-model", "Qwen/Qwen3-0.6B"):  # the second as the Hub calls it
        (folder / name).symlink_to(model, target_is_directory=True)
    (folder / "trl-lib" / "ultrafeedback_binarized").mkdir(parents=True)
    write_rows(folder / "trl-lib" / "ultrafeedback_binarized" / "train.jsonl", pair_rows(9))
    for seed, name in enumerate(("PAIRS.jsonl", "HELD_OUT.jsonl", "HH.jsonl")):
        write_rows(folder / name, pair_rows(60, seed=seed))
    write_rows(folder / "CHATS.jsonl", [{"prompt": r["prompt"], "completion": r["chosen"]} for r in pair_rows(12)])
    questions = [{"id": f"q-{at}", "question": f"Why does the sun shine {at} times?"} for at in range(12)]
    for name in ("questions.jsonl", "PROMPTS.jsonl", "OTHERS.jsonl"):
        write_rows(folder / name, _of(name, questions))
    excluded = folder / "runs" / "excluded"
    excluded.mkdir(parents=True)
    for name in ("mine-1a2b3c4d", "pairs-jsonl-5e6f7a8b"):
        write_rows(excluded / f"{name}.jsonl", [{"id": "row-1", "reason": "the answer is wrong"}])
    (folder / "QUESTIONS.csv").write_text(TRUTHFUL, encoding="utf-8")
    (folder / "PROMPTS.csv").write_text(XSTEST, encoding="utf-8")
    (folder / "trl.yaml").write_text(yaml.safe_dump(TRL_FILE), encoding="utf-8")
    (folder / "dpo.yml").write_text(yaml.safe_dump(AXOLOTL_FILE), encoding="utf-8")
    _packaged_task(folder / "house_style", pair_rows(60, seed=5), questions[:6])
    sources = folder / "src" / "penchant" / "data"
    sources.mkdir(parents=True)
    (sources / "house_style").symlink_to(folder / "house_style", target_is_directory=True)
    (folder / "scripts").symlink_to(Path(__file__).parents[1] / "scripts", target_is_directory=True)


def _packaged_task(folder: Path, rows: list[dict[str, Any]], questions: list[dict[str, Any]]) -> None:
    folder.mkdir()
    for name in ("train_questions", "validation_questions", "test_questions"):
        told = [
            {**row, "id": f"{name}-{row['id']}", "question": f"{row['question']} ({name})"} for row in questions
        ]
        _write(folder / f"{name}.jsonl", told)
    _write(folder / "pairs.jsonl", rows)
    _write(
        folder / "test_pairs.jsonl",
        [{**row, "id": f"t-{row['id']}", "prompt": f"{row['prompt']}!"} for row in rows],
    )
    packaged = Path(__file__).parents[1] / "src" / "penchant" / "data" / "house_style" / "controls.json"
    shutil.copy(packaged, folder / "controls.json")


def _of(name: str, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Questions that no other file asks."""
    return [{"id": f"{name}-{row['id']}", "question": f"{row['question']} ({name})"} for row in questions]


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def enter() -> None:
    """Make small what is large behind a name; called in the process of each command, and in no other."""
    from penchant import recipes
    from penchant.data import house_style
    from penchant.evaluation.judges import rules
    from penchant.models import load
    from penchant.reporting import charts

    world = Path(os.environ[PLACE])
    folder_of, recipe_text = load._folder_of, recipes.recipe_text
    stand_ins: dict[str, str] = dict.fromkeys(("bundled", *_HUB_MODELS), str(world / "MODEL_DIRECTORY"))

    def small_folder(name: str) -> str:
        return folder_of(stand_ins.get(name, name))

    def small_recipe(name: str) -> str:
        values = yaml.safe_load(recipe_text(name))
        for part, changes in (("train", _SMALL_TRAIN), ("engine", _SMALL_ENGINE), ("eval", {"max_new_tokens": 6})):
            values[part] = {**values.get(part, {}), **changes}
        return yaml.safe_dump(values)

    def blank(figure: Any, name: str, title: str, description: str, words: Any) -> str:
        return f'<svg viewBox="0 0 1 1" role="img"><title>{html.escape(title)}</title></svg>'

    def every_other(question: str, answer: str, *, finished: bool) -> str:
        return rules.PASS if len(answer) % 2 else "unfinished"

    rules.judge = every_other  # a model of random weights never ends a sentence
    charts._svg = blank  # what matplotlib takes to draw is half of a small command's time
    load._folder_of = small_folder
    recipes.recipe_text = small_recipe
    house_style.files = lambda package: world / "house_style"
