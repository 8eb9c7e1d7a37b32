"""Whole runs, logged by TRL's trainer and by ours: the same rows in the same steps, at the same rates.

TRL's lines lie in tests/golden/trl_courses.json; the slow tests run both, also TRL's own quick start as it stands.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.oracles.trl_courses import COURSES, GOLDEN, logged, rows_of, trainer_of
from tests.shared_data import shared_file
from tests.tiny import save_tiny, tiny_llama

from penchant.integrations import trl as ours

GOLD: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
ROOT = Path(__file__).parents[2]
WITHIN = 1e-4


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for own, their in zip(found, expected, strict=True):
        assert own.keys() == their.keys()
        for name, value in their.items():
            assert own[name] == pytest.approx(value, rel=WITHIN, abs=WITHIN), (own["step"], name)


@pytest.mark.parametrize("name", COURSES)
def test_a_run_logs_what_trl_logs(name: str, tmp_path: Path) -> None:
    trainer = trainer_of(ours, COURSES[name], tmp_path)
    trainer.train()
    assert_same(logged(trainer), GOLD[name])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TRL and its dependencies
def test_the_committed_lines_are_trls() -> None:
    pytest.importorskip("trl")
    if importlib.metadata.version("trl") != GOLD["circumstances"]["trl"]:
        # another version may log otherwise; the test above compares the committed lines with ours all the same
        pytest.skip(f"the lines are TRL {GOLD['circumstances']['trl']}'s")
    found = importlib.import_module("tests.golden.make_trl_courses").everything()
    for name in COURSES:
        assert_same(found[name], GOLD[name])


THEIRS_FP32 = """
import trl
plain = trl.DPOConfig.__post_init__
def fp32(self):
    self.bf16 = False
    plain(self)
trl.DPOConfig.__post_init__ = fp32
"""
OURS_FP32 = """
from penchant.integrations.trl.config import DPOConfig as Config
plain = Config.said
Config.said = lambda self: {**plain(self), "bf16": False}
"""
KEEP = """
import json
from pathlib import Path
Path("log.json").write_text(json.dumps(trainer.state.log_history))
"""
LONGER = """
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-0.6B")
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-0.6B")
dataset = load_dataset("trl-lib/ultrafeedback_binarized", split="train")
training_args = DPOConfig(
    output_dir="Qwen3-0.6B-DPO",
    logging_steps=2,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    lr_scheduler_type="cosine",
    warmup_steps=2,
    num_train_epochs=2,
    report_to="none",
)
trainer = DPOTrainer(model=model, args=training_args, processing_class=tokenizer, train_dataset=dataset)
trainer.train()
trainer.save_model(training_args.output_dir)
"""


def quick_start() -> str:
    """The example of DPOTrainer in the README of the installed TRL."""
    readme = importlib.metadata.distribution("trl").read_text("METADATA") or ""
    return next(text for text in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "DPOTrainer" in text)


def logged_by(script: str, folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """What a script logs that names its model and data by folders of where it runs."""
    save_tiny(folder / "Qwen" / "Qwen3-0.6B", tiny_llama(layers=2))
    data = folder / "trl-lib" / "ultrafeedback_binarized"
    data.mkdir(parents=True)
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "script.py").write_text(script + KEEP, encoding="utf-8")
    places = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HF_HOME": str(folder / "hf"), "CUDA_VISIBLE_DEVICES": ""}
    places["PENCHANT_CACHE"] = str(folder / "cache")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "log.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["quick start", "longer"])
@pytest.mark.parametrize("real", [False, True], ids=["own rows", "UltraFeedback"])
def test_a_script_of_trls_logs_the_same_with_one_import_changed(which: str, real: bool, tmp_path: Path) -> None:
    """As it stands, but for the precision, which no default of either side would make the same."""
    pytest.importorskip("trl")
    rows = rows_of("implicit", 27)
    if real:
        file = shared_file("ultrafeedback_trl/train_clean.jsonl")
        lines = file.read_text(encoding="utf-8").splitlines()[:40]
        rows = [{name: json.loads(line)[name] for name in ("prompt", "chosen", "rejected")} for line in lines]
    script = quick_start() if which == "quick start" else LONGER
    changed = re.sub(r"^from trl import", "from penchant.integrations.trl import", script, flags=re.MULTILINE)
    assert len(set(changed.splitlines()) - set(script.splitlines())) == 1
    found = logged_by(OURS_FP32 + changed, tmp_path / "ours", rows)
    expected = logged_by(THEIRS_FP32 + script, tmp_path / "theirs", rows)
    assert len(found) == len(expected) > 1
    for own, their in zip(found, expected, strict=True):
        compared = own.keys() & their.keys()
        assert {"epoch", "step"} < compared
        assert ("loss" in compared) == ("loss" in their)
        for name in (name for name in compared if not name.startswith("train_") or name == "train_loss"):
            assert own[name] == pytest.approx(their[name], rel=WITHIN, abs=WITHIN), (own["step"], name)
    if which == "longer":
        assert (tmp_path / "ours" / "Qwen3-0.6B-DPO" / "model.safetensors").is_file()
