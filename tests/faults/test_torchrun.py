"""What happens to a run of two processes when torchrun is told to stop, and when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tiny import pair_rows, save_tiny, write_rows

STEPS = 30
RECIPE = {
    "model": {"last_layers": 2},
    "data": {"max_tokens": 96},
    "train": {
        "learning_rate": 1e-3,
        "batch_pairs": 4,
        "epochs": 30.0,
        "max_steps": STEPS,
        "checkpoint_every": 4,
    },
    "engine": {"device": "cpu", "precision": "fp32", "threads": 1, "micro_batch_tokens": 100},
}
PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchrun")
    recipe = {**RECIPE, "model": {**RECIPE["model"], "path": str(save_tiny(folder / "start"))}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    write_rows(folder / "pairs.jsonl", pair_rows(16))
    return folder


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start(folder: Path, out: Path, running: list[subprocess.Popen[str]], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "penchant", "train", str(folder / "recipe.yaml"), "--data", str(folder / "pairs.jsonl")]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--quiet", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        start_new_session=True,
    )
    running.append(process)
    return process


def lines(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def wait_for_steps(run: Path, count: int) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while len(lines(run)) < count:
        assert time.monotonic() < until, "the run does not get on"
        time.sleep(0.02)


def workers(parent: int) -> list[int]:
    """The processes that torchrun has started, which are the children of its own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return sorted(found)


def assert_same(one: Path, other: Path) -> None:
    for name in ("model/model.safetensors", "ledger.parquet", "pairs.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for left, right in zip(lines(one), lines(other), strict=True):
        same = left.keys() - {"seconds", "peak_memory_bytes"}
        assert {key: left[key] for key in same} == {key: right[key] for key in same}


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run of two processes that nobody disturbs."""
    out = folder / "whole"
    running: list[subprocess.Popen[str]] = []
    printed, _ = start(folder, out, running).communicate(timeout=PATIENCE_SECONDS)
    assert running[0].returncode == 0, printed
    return out


@pytest.mark.faults
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_all_processes_stop_at_one_step_and_go_on_to_the_same_end(
    folder: Path, started: list[subprocess.Popen[str]], parallel: str
) -> None:
    undisturbed, out = folder / f"undisturbed-{parallel}", folder / f"stopped-{parallel}"
    printed, _ = start(folder, undisturbed, started, "--parallel", parallel).communicate(timeout=PATIENCE_SECONDS)
    assert started[-1].returncode == 0, printed

    run = start(folder, out, started, "--parallel", parallel)
    wait_for_steps(out, 3)
    run.send_signal(signal.SIGTERM)
    printed, _ = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode != 0  # torchrun's own way
    status = json.loads((out / "status.json").read_text("utf-8"))
    assert (status["state"], status["exit_code"]) == ("stopped", 75), printed
    taken = len(lines(out))
    assert 3 <= taken < STEPS
    assert (out / "checkpoints" / f"step-{taken}").is_dir()

    printed, _ = start(folder, out, started, "--parallel", parallel, "--resume").communicate(
        timeout=PATIENCE_SECONDS
    )
    assert started[-1].returncode == 0, printed
    assert_same(undisturbed, out)


@pytest.mark.faults
@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_one_process_ends_all_and_costs_nothing(
    folder: Path, whole: Path, started: list[subprocess.Popen[str]], victim: int
) -> None:
    out = folder / f"died-{victim}"
    run = start(folder, out, started)
    wait_for_steps(out, 6)
    children = workers(run.pid)
    assert len(children) == 2
    began = time.monotonic()
    os.kill(children[victim], signal.SIGKILL)
    printed, _ = run.communicate(timeout=60)  # the promise: within a minute
    assert time.monotonic() - began < 60
    assert run.returncode != 0
    assert "SIGKILL" in printed
    for child in children:
        assert not Path(f"/proc/{child}").exists()
    printed, _ = start(folder, out, started, "--resume").communicate(timeout=PATIENCE_SECONDS)
    assert started[-1].returncode == 0, printed
    assert_same(whole, out)
