"""A run that was killed, anywhere, ends after its resume as if nothing had been: the same bytes.

A few kills are part of the usual tests; `make faults` kills at every hit of every point and at random times.
"""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.faults.forked_runs import ForkedRuns
from tests.tiny import pair_rows, save_tiny, step_metrics, tiny_config, tiny_llama, write_rows

from penchant.config import Config
from penchant.data.atomic import write_text
from penchant.errors import UsageError
from penchant.training.checkpoint import find_checkpoint
from penchant.workflow.run_directory import finished

SOURCE = Path(__file__).parents[2] / "src"

# Three steps an epoch, four epochs, and a checkpoint every two steps: some lie inside an epoch, some at its end.
# Several micro-batches a step.
TRAIN: dict[str, Any] = {"max_steps": 12, "epochs": 4.0, "checkpoint_every": 2, "learning_rate": 1e-2}
ENGINE: dict[str, Any] = {"micro_batch_tokens": 160}
MODES: dict[str, dict[str, dict[str, Any]]] = {
    "all weights": {},
    "adapters": {"model": {"lora_rank": 2}},
    "trunk on disk": {"model": {"last_layers": 1}},
    "trunk in memory": {"model": {"last_layers": 1}, "engine": {**ENGINE, "trunk_cache_disk_bytes": 0}},
    "moving reference": {"objective": {"reference_every": 3}, "model": {"last_layers": 2}},
    "sft": {"objective": {"loss": "sft"}},
    "validated": {"train": {**TRAIN, "evaluate_every": 3, "keep_best": "loss"}},
}
BESIDE_THE_RUN = {"folder.old_aside"}  # points that no run comes to; their own tests name them
SAMPLE = (
    ("adapters", "checkpoint.manifest_written@2"),
    ("moving reference", "folder.renamed@3"),
    ("all weights", "retention.hidden@1"),
)


@cache
def points() -> tuple[str, ...]:
    """Every point that the sources name."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoint":
                assert isinstance(node.args[0], ast.Constant), f"{path}: a point's name stands where it is"
                found.add(str(node.args[0].value))
    return tuple(sorted(found))


@dataclass(frozen=True)
class Bench:
    """Where runs are killed: a forking process, a model, pairs, and a folder for everything."""

    runs: ForkedRuns
    model: Path
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "pairs"

    def config(self, mode: str) -> Config:
        return tiny_config(self.model, **{"train": TRAIN, "engine": {**PLAIN, **ENGINE}, **sections(mode)})

    def whole(self, mode: str) -> Path:
        """A run of this mode that nobody disturbed."""
        run = self.folder / mode
        if not run.exists():
            assert self.runs.train(self.config(mode), self.data, run) == 0
        return run

    def resumed(self, mode: str, out: Path) -> None:
        """Go on with a run that was killed: the same bytes as undisturbed, and nothing unfinished is left.

        One that was killed after it had written what it came to is finished: it is tidied, and not begun again.
        """
        over = finished(out)
        resume = (out / "metrics.jsonl").exists() or (out / "checkpoints").is_dir()
        code = self.runs.train(self.config(mode), self.data, out, resume=resume)
        assert code == (UsageError.exit_code if over else 0)
        assert outcome(out) == outcome(self.whole(mode))
        left = [path for path in out.rglob(".*") if path.suffix in (".tmp", ".old")]
        assert left == []


PLAIN = {"device": "cpu", "precision": "fp32", "threads": 1}


def sections(mode: str) -> dict[str, dict[str, Any]]:
    changed = {name: dict(values) for name, values in MODES[mode].items()}
    if "engine" in changed:
        changed["engine"] = {**PLAIN, **changed["engine"]}
    return changed


def outcome(run: Path) -> dict[str, Any]:
    """All that two runs must have in common: figures, and the bytes of what was written."""
    found: dict[str, Any] = {"metrics": step_metrics(run)}
    for name in ("validation.jsonl", "pairs.jsonl"):
        if (run / name).exists():
            lines = (run / name).read_text(encoding="utf-8").splitlines()
            found[name] = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
    for folder in ("model", "adapter", "checkpoints/step-12"):
        for path in sorted((run / folder).glob("*.safetensors")):
            found[f"{folder}/{path.name}"] = path.read_bytes()
    found["ledger"] = (run / "ledger.parquet").read_bytes()
    found["checkpoints"] = sorted(path.name for path in (run / "checkpoints").iterdir())
    return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("kills")
    (folder / "pairs").mkdir()
    write_rows(folder / "pairs" / "train.jsonl", pair_rows(12))
    write_rows(folder / "pairs" / "test.jsonl", pair_rows(6, seed=5))
    model = save_tiny(folder / "start", tiny_llama(layers=2))
    with ForkedRuns() as runs:
        yield Bench(runs, model, folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.mark.parametrize(("mode", "point"), SAMPLE)
def test_a_kill_at_a_point_costs_nothing(bench: Bench, out: Path, mode: str, point: str) -> None:
    name, _, hit = point.partition("@")
    killed = bench.runs.train(bench.config(mode), bench.data, out, failpoints=f"{name}=kill@{hit or 1}")
    assert killed == -signal.SIGKILL, f"no run of this mode comes to {point}"
    bench.resumed(mode, out)


@pytest.mark.slow
def test_a_run_that_is_killed_and_killed_again_gets_to_the_same_end(bench: Bench, out: Path) -> None:
    """While writing, after its resume while trimming the logs, and while writing once more."""
    mode = "all weights"
    for resume, point in (
        (False, "folder.renamed=kill@4"),
        (True, "text.flushed=kill@3"),
        (True, "checkpoint.begun=kill"),
    ):
        assert bench.runs.train(bench.config(mode), bench.data, out, resume=resume, failpoints=point) == -9
    bench.resumed(mode, out)


def test_a_kill_before_the_first_checkpoint_begins_anew(bench: Bench, out: Path) -> None:
    """Nothing is there to resume; the same command with --resume takes the first step again."""
    mode = "sft"
    assert bench.runs.train(bench.config(mode), bench.data, out, failpoints="checkpoint.begun=kill") == -9
    assert find_checkpoint(out / "checkpoints").path is None
    bench.resumed(mode, out)


@pytest.mark.parametrize("action", ["enospc", "oserror"])
def test_a_disk_that_refuses_keeps_the_last_good_checkpoint(bench: Bench, out: Path, action: str) -> None:
    """Exit code 13 wherever it happens; nothing unfinished stays, and the run goes on when there is room."""
    mode = "all weights"
    point = f"checkpoint.manifest_written={action}@3+"
    assert bench.runs.train(bench.config(mode), bench.data, out, failpoints=point) == 13
    assert find_checkpoint(out / "checkpoints").path == out / "checkpoints" / "step-4"
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-2", "step-4"]
    bench.resumed(mode, out)


@pytest.mark.faults
@pytest.mark.parametrize("point", [point for point in points() if point not in BESIDE_THE_RUN])
def test_a_kill_at_every_hit_of_every_point_costs_nothing(bench: Bench, tmp_path: Path, point: str) -> None:
    """One run is killed the first time it gets there, the next the second time, until one comes through."""
    mode = "adapters" if point == "final.adapters_saved" else "all weights"
    hit = 1
    while True:
        out = tmp_path / f"run-{hit}"
        status = bench.runs.train(bench.config(mode), bench.data, out, failpoints=f"{point}=kill@{hit}")
        if status == 0:
            break
        assert status == -signal.SIGKILL
        bench.resumed(mode, out)
        shutil.rmtree(out)
        hit += 1
    assert hit > 1, f"no run comes to {point}"


@pytest.mark.faults
@pytest.mark.parametrize("mode", MODES)
def test_kills_at_random_times_cost_nothing(bench: Bench, tmp_path: Path, mode: str) -> None:
    """Five a mode, at any time of a run; where there is nothing to resume the run begins anew."""
    started = time.monotonic()
    bench.runs.train(bench.config(mode), bench.data, tmp_path / "timed")
    seconds = time.monotonic() - started
    coin = random.Random(mode)
    for number in range(5):
        out = tmp_path / f"run-{number}"
        bench.runs.train(bench.config(mode), bench.data, out, kill_after=coin.uniform(0.1, 1.0) * seconds)
        bench.resumed(mode, out)


@pytest.mark.faults
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("hit", [1, 2, 3, 4, 5, 6])
def test_every_mode_survives_a_kill_at_every_checkpoint(bench: Bench, out: Path, mode: str, hit: int) -> None:
    """While it is written: the one before is what the run goes on from."""
    failpoints = f"checkpoint.state_written=kill@{hit}"
    assert bench.runs.train(bench.config(mode), bench.data, out, failpoints=failpoints) == -9
    bench.resumed(mode, out)


def test_every_named_point_is_hit_by_a_test() -> None:
    """The long test takes them from the sources and demands that each kills; the rest have tests of their own."""
    assert BESIDE_THE_RUN < set(points())
    others = {path: path.read_text(encoding="utf-8") for path in SOURCE.parent.glob("tests/**/test_*.py")}
    for point in BESIDE_THE_RUN:
        assert any(f'"{point}=kill"' in text for path, text in others.items() if path != Path(__file__)), point


def command(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "penchant", *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.faults
def test_the_real_command_survives_a_kill(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`penchant train`, killed when its fourth checkpoint has its name; `--resume`; `penchant verify-resume`."""
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    write_text(recipe, yaml.safe_dump(bench.config("trunk on disk").resolved()))
    train = ("train", recipe, "--data", bench.data, "--out", out, "--quiet")
    killed = command(*train, PENCHANT_TEST="1", PENCHANT_FAILPOINTS="folder.renamed=kill@4")
    assert killed.returncode == -signal.SIGKILL
    done = command(*train, "--resume")
    assert done.returncode == 0, done.stderr
    expected, found = outcome(bench.whole("trunk on disk")), outcome(out)
    generators = "checkpoints/step-12/rng.safetensors"  # another process began with others; nobody draws from them
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name] and name != generators] == []
    verified = command("verify-resume", out, "--quiet")
    assert verified.returncode == 0, verified.stderr
    assert "Steps 11 to 12 taken once more: equal, bit for bit." in verified.stdout
