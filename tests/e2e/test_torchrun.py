"""`torchrun -m penchant ...` with two processes on this machine: what docs/parallel.md says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tests.tiny import largest_difference, pair_rows, save_tiny, tiny_family, write_rows

from penchant.recipes import load_recipe
from penchant.workflow.train import train_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3 of random weights, pairs, and the packaged recipe for the real one in their size."""
    path = tmp_path_factory.mktemp("torchrun")
    save_tiny(path / "model", tiny_family("Qwen3"))
    write_rows(path / "pairs.jsonl", pair_rows(24, seed=5))
    return path


def torchrun(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run(
        [*command, "-m", "penchant", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
    )


OVERRIDES = {
    "data.max_tokens": 64,
    "train.batch_pairs": 8,
    "train.max_steps": 6,
    "train.epochs": 2,
    "train.learning_rate": 1e-3,
    "train.checkpoint_every": 2,
    "engine.device": "cpu",
    "engine.precision": "fp32",
}


def overrides(folder: Path) -> list[str]:
    pairs = {"model.path": folder / "model", **OVERRIDES}
    return [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_the_packaged_qwen3_recipe_runs_in_two_processes(folder: Path) -> None:
    run, data = folder / "two", str(folder / "pairs.jsonl")
    done = torchrun(
        "train", "qwen3-ultrafeedback", "--data", data, "--out", str(run), "--parallel", "fsdp", *overrides(folder)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Report") == 1  # one process speaks for all
    assert (run / "report.html").is_file()
    assert yaml.safe_load((run / "config.yaml").read_text())["run"]["processes"] == 2

    config = load_recipe("qwen3-ultrafeedback", overrides(folder)[1::2])
    alone = train_run(config, folder / "pairs.jsonl", folder / "one").run
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)
    mine, theirs = (load_file(path / "model" / "model.safetensors") for path in (run, alone))
    assert max(largest_difference(mine[name], value) for name, value in theirs.items()) < 1e-5


@pytest.mark.slow
def test_a_command_of_one_process_says_so(folder: Path) -> None:
    done = torchrun("plan", "qwen3-ultrafeedback", "--data", str(folder / "pairs.jsonl"))
    assert done.returncode != 0
    assert "this command is the work of one process" in done.stderr


@pytest.mark.slow
def test_more_processes_than_pairs_in_a_step_are_refused_before_anything_is_loaded(folder: Path) -> None:
    arguments = (
        "train",
        "qwen3-ultrafeedback",
        "--data",
        str(folder / "pairs.jsonl"),
        "--out",
        str(folder / "no"),
    )
    done = torchrun(*arguments, *overrides(folder), "--set", "train.batch_pairs=1")
    assert done.returncode != 0
    assert "1 pairs a step cannot be shared by 2 processes" in done.stderr
    assert not (folder / "no").exists()
