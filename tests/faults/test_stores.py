"""The stores under torn, changed and foreign files, full disks, kills, and two processes at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.tiny import (
    Notes,
    pair_model,
    pair_rows,
    random_pairs,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)
from torch import Tensor

import penchant.objective.reference as reference_module
import penchant.objective.shards as shards_module
from penchant.config import Config
from penchant.errors import Stopped
from penchant.models.bundled import cache_directory
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import Reference, reference_logps
from penchant.objective.shards import Shard, read_shard, write_shard
from penchant.objective.trunk_store import TrunkStore
from penchant.workflow.train import train_run

PAIRS = random_pairs(6, seed=5)
CHUNKS = [[0, 1], [2, 3], [4, 5]]
HEADER = 64
HALF = 3  # pairs in each of the two shards of `two_shards`


def scored(folder: Path, model: PairModel, notes: list[str] | None = None, **changes: Any) -> Reference:
    settings: dict[str, Any] = {"micro_batch_tokens": 64, "note": (notes if notes is not None else []).append}
    return reference_logps(model, PAIRS, folder, **{**settings, **changes})


def two_shards(folder: Path, model: PairModel) -> tuple[Reference, list[Path]]:
    scored(folder, model, chunks=[[0, 1, 2]])
    reference = scored(folder, model)
    return reference, sorted(reference.folder.iterdir())


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def header_size(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def rewritten(path: Path, **tensors: Tensor) -> None:
    """Other tensors under the digest of those that were there."""
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    save_file({**load_file(path), **tensors}, path, about)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "long": lambda path: path.write_bytes(path.read_bytes() + b"12345"),
    "empty": lambda path: path.write_bytes(b""),
    "another format": lambda path: path.write_bytes(b"{}" * 100),
    "a bit of the last number": lambda path: flipped(path, -1),
    "a bit of the first tensor": lambda path: flipped(path, header_size(path)),
    "a bit of the header": lambda path: flipped(path, 40),
    "lengths": lambda path: rewritten(path, lengths=load_file(path)["lengths"].flip(0)),
    "keys": lambda path: rewritten(path, keys=load_file(path)["keys"].flip(0)),
    "a type": lambda path: rewritten(path, token_logps=load_file(path)["token_logps"].view(torch.int32)),
    "no digest": lambda path: save_file(load_file(path), path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_said_and_scored_again(tmp_path: Path, damage: str) -> None:
    """Only its own pairs are; the other shard is used; the damaged one is gone, and the next run finds all."""
    model = pair_model(tiny_llama())
    expected, (_, second) = two_shards(tmp_path, model)
    DAMAGE[damage](second)
    notes: list[str] = []
    again = scored(tmp_path, model, notes)
    assert (again.reused, again.scored) == (HALF, len(PAIRS) - HALF)
    assert torch.allclose(again.logps.chosen, expected.logps.chosen, rtol=1e-6)
    assert torch.allclose(again.logps.rejected, expected.logps.rejected, rtol=1e-6)
    assert len(notes) == 1
    assert second.name in notes[0]
    assert "\n" not in notes[0]
    assert not second.exists()
    assert scored(tmp_path, model, notes).reused == len(PAIRS)
    assert len(notes) == 1


def test_a_missing_shard_is_scored_again(tmp_path: Path) -> None:
    model = pair_model(tiny_llama())
    expected, (first, _) = two_shards(tmp_path, model)
    first.unlink()
    again = scored(tmp_path, model)
    assert (again.reused, again.scored) == (len(PAIRS) - HALF, HALF)
    assert torch.allclose(again.logps.chosen, expected.logps.chosen, rtol=1e-6)


def test_a_shard_of_another_store_is_not_used(tmp_path: Path) -> None:
    """Copied over from another model's folder, whole as it is: other numbers for the same pairs."""
    one, other = pair_model(tiny_llama(seed=1)), pair_model(tiny_llama(seed=2))
    right = scored(tmp_path / "right", one)
    (foreign,) = scored(tmp_path, other).folder.iterdir()
    target = tmp_path / right.folder.name
    target.mkdir()
    foreign.rename(target / foreign.name)
    notes: list[str] = []
    found = scored(tmp_path, one, notes)
    assert (found.reused, found.scored) == (0, len(PAIRS))
    assert torch.equal(found.logps.chosen, right.logps.chosen)
    assert "another store" in notes[0]


def test_parts_that_do_not_fit_are_not_used(tmp_path: Path) -> None:
    """Lengths that promise more than is there, under a digest that is right."""
    folder = tmp_path / "store"
    shard = Shard(torch.zeros(1, 32, dtype=torch.uint8), torch.tensor([[2, 3]], dtype=torch.int32), torch.zeros(4))
    with pytest.raises(ValueError, match="do not fit"):
        read_shard(write_shard(folder, shard), "store")
    narrow = replace(shard, keys=torch.zeros(1, 31, dtype=torch.uint8), token_logps=torch.zeros(5))
    with pytest.raises(ValueError, match="do not fit"):
        read_shard(write_shard(folder, narrow), "store")
    whole = replace(shard, token_logps=torch.tensor([1.0, 2, 4, 8, 16]))
    assert read_shard(write_shard(folder, whole), "store").sums().tolist() == [[3.0, 28.0]]


def no_room(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the operating system refuse to let any file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@contextlib.contextmanager
def failing(owner: Any, name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, no_room)
        yield


FULL: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "write": lambda: largest_file(200),
    "flush": lambda: failing(os, "fsync"),
    "rename": lambda: failing(Path, "replace"),
}


@pytest.mark.parametrize("how", FULL)
def test_a_reference_that_does_not_fit_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It is said once, though there were three shards to write; nothing half-written is left."""
    model = pair_model(tiny_llama())
    monkeypatch.setattr(reference_module, "FLUSH_PAIRS", 2)
    notes: list[str] = []
    with FULL[how]():
        found = scored(tmp_path / "a", model, notes, chunks=CHUNKS)
    assert len(notes) == 1
    assert "goes on without it" in notes[0]
    assert list(found.folder.iterdir()) == []
    expected = scored(tmp_path / "b", model, chunks=CHUNKS)
    assert torch.equal(found.logps.chosen, expected.logps.chosen)


def test_a_stop_keeps_what_was_scored(tmp_path: Path) -> None:
    """As one whole shard; the next run scores the rest."""
    model = pair_model(tiny_llama())
    told: list[int] = []

    def stop(count: int) -> None:
        told.append(count)
        if len(told) == 2:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        scored(tmp_path, model, chunks=CHUNKS, on_pairs=stop)
    again = scored(tmp_path, model, chunks=CHUNKS)
    assert (again.reused, again.scored) == (4, 2)
    assert torch.equal(again.logps.chosen, scored(tmp_path / "b", model, chunks=CHUNKS).logps.chosen)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_pass_or_while_writing_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """In the second pass: the first is kept. In the rename: nothing is, and nothing is left."""
    model = pair_model(tiny_llama())

    def raising(*_: object, **__: object) -> Any:
        raise error

    collate, calls = PairModel.collate, []

    def collate_twice(self: PairModel, groups: Any) -> Any:
        calls.append(1)
        return collate(self, groups) if len(calls) < 2 else raising()

    with monkeypatch.context() as patched:
        patched.setattr(PairModel, "collate", collate_twice)
        with pytest.raises(error):
            scored(tmp_path / "a", model, chunks=CHUNKS)
    assert scored(tmp_path / "a", model, chunks=CHUNKS).reused == 2
    with monkeypatch.context() as patched:
        patched.setattr(shards_module.os, "fsync", raising)
        with pytest.raises(error):
            scored(tmp_path / "b", model, chunks=CHUNKS)
    assert [path for path in (tmp_path / "b").rglob("*") if path.is_file()] == []


def test_two_shards_of_one_pair_give_the_older(tmp_path: Path) -> None:
    """Two processes scored it at once; every later reader takes the same one of the two."""
    model = pair_model(tiny_llama())
    first = scored(tmp_path, model)
    (path,) = first.folder.iterdir()
    shard = read_shard(path, first.folder.name)
    write_shard(first.folder, replace(shard, token_logps=shard.token_logps * (1 + 1e-6)))
    assert torch.equal(scored(tmp_path, model).logps.chosen, first.logps.chosen)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "start")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(12))


@pytest.fixture
def config(source: Path) -> Config:
    return tiny_config(source, model={"last_layers": 1}, train={"epochs": 2.0})


RUN = """
import json, sys
from pathlib import Path
from penchant.config import build_config
from penchant.workflow.train import train_run
config, data, *outs = sys.argv[1:]
for out in outs:
    train_run(build_config(json.loads(config)), Path(data), Path(out))
"""


def started(config: Config, data: Path, *outs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, json.dumps(config.resolved()), str(data), *map(str, outs)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_two_processes_share_the_stores(tmp_path: Path, config: Config, data: Path) -> None:
    """Both cold at once: both end well in the same metrics, and a third run finds everything whole."""
    both = [started(config, data, tmp_path / name) for name in ("one", "two")]
    assert [process.wait(120) for process in both] == [0, 0]
    notes = Notes()
    third = train_run(config, data, tmp_path / "three", reporter=notes).run
    assert step_metrics(tmp_path / "one") == step_metrics(tmp_path / "two") == step_metrics(third)
    assert json.loads((third / "reference" / "store.json").read_text("utf-8"))["reused"] == 12
    assert not [line for line in notes.lines if "store" in line or "cache" in line]


@pytest.mark.faults
def test_a_killed_process_leaves_stores_that_are_whole(tmp_path: Path, config: Config, data: Path) -> None:
    """SIGKILL as soon as the trunk's file grows; what is there then is right, and nothing of it is reported."""
    outs = [tmp_path / f"killed-{number}" for number in range(50)]
    with started(config, data, *outs) as process:
        while process.poll() is None and not [p for p in cache_directory().glob("trunk/*/*") if p.stat().st_size]:
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    notes = Notes()
    warm = step_metrics(train_run(config, data, tmp_path / "after", reporter=notes).run)
    assert not [line for line in notes.lines if "damaged" in line or "not used" in line]
    for path in (*cache_directory().glob("trunk/*/*"), *cache_directory().glob("reference/*/*")):
        path.unlink()
    assert step_metrics(train_run(config, data, tmp_path / "cold").run) == warm


TRUNK_DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of an output": lambda path: flipped(path, -3),
    "a bit of a key": lambda path: flipped(path, 9),
    "a bit of a size": lambda path: flipped(path, 40),
    "a bit of a checksum": lambda path: flipped(path, 56),
    "another format": lambda path: path.write_bytes(b"0" * 5000),
}


@pytest.mark.parametrize(
    "damage",
    [
        name if name == "a bit of an output" else pytest.param(name, marks=pytest.mark.faults)
        for name in TRUNK_DAMAGE
    ],
)
def test_a_damaged_output_is_said_and_computed_again(
    tmp_path: Path, config: Config, data: Path, damage: str
) -> None:
    """Never used: the metrics are those of a run without caches. The run after finds it mended."""
    expected = step_metrics(train_run(config, data, tmp_path / "one").run)
    (path,) = cache_directory().glob("trunk/*/*")
    TRUNK_DAMAGE[damage](path)
    notes = Notes()
    assert step_metrics(train_run(config, data, tmp_path / "two", reporter=notes).run) == expected
    lines = [line for line in notes.lines if line.startswith("Trunk cache:")]
    assert len(lines) == 1
    assert "damaged outputs are never used" in lines[0]
    assert step_metrics(train_run(config, data, tmp_path / "three").run) == expected


@pytest.mark.parametrize("keep", ["all but a byte", "a header", "half a header", "nothing"])
def test_what_a_kill_left_half_written_is_not_an_entry(tmp_path: Path, keep: str) -> None:
    """Of two outputs the second is torn: the first is there, the second is not, and nobody is alarmed."""
    keys = {0: b"a" * 32, 1: b"b" * 32}
    notes: list[str] = []
    store = TrunkStore(tmp_path, "store", keys=keys, max_bytes=1 << 20, note=notes.append)
    outputs = [torch.randn(3, 2), torch.randn(3, 2)]
    for index, value in enumerate(outputs):
        assert store.write(index, value)
    store.close()
    (path,) = (tmp_path / "store").iterdir()
    entry = HEADER + 24
    size = {
        "all but a byte": 2 * entry - 1,
        "a header": entry + HEADER,
        "half a header": entry + 30,
        "nothing": entry,
    }
    os.truncate(path, size[keep])
    store = TrunkStore(tmp_path, "store", keys=keys, max_bytes=1 << 20, note=notes.append)
    found = store.read(0)
    assert found is not None
    assert torch.equal(found, outputs[0])
    assert store.read(1) is None
    assert store.write(1, outputs[1])
    store.close()
    again = TrunkStore(tmp_path, "store", keys=keys, max_bytes=1 << 20, note=notes.append)
    mended = again.read(1)
    assert mended is not None
    assert torch.equal(mended, outputs[1])
    again.close()
    assert notes == []


def test_a_file_that_grows_shorter_while_it_is_open_is_not_used(tmp_path: Path) -> None:
    """The entry was listed whole; what can be read of it now is not."""
    notes: list[str] = []
    store = TrunkStore(tmp_path, "store", keys={0: b"a" * 32}, max_bytes=1 << 20, note=notes.append)
    store.write(0, torch.ones(3, 2))
    (path,) = (tmp_path / "store").iterdir()
    os.truncate(path, HEADER + 8)
    assert store.read(0) is None
    assert store.read(0) is None
    assert len(notes) == 1
    store.close()


def test_a_store_that_another_run_removed_is_read_to_the_end(tmp_path: Path) -> None:
    """Its files are open already; a run that comes later finds nothing."""
    keys = {0: b"a" * 32}
    notes: list[str] = []
    store = TrunkStore(tmp_path, "store", keys=keys, max_bytes=1 << 20, note=notes.append)
    store.write(0, torch.ones(3, 2))
    for path in (tmp_path / "store").iterdir():
        path.unlink()
    assert store.read(0) is not None
    later = TrunkStore(tmp_path, "store", keys=keys, max_bytes=1 << 20, note=notes.append)
    assert later.read(0) is None
    assert notes == []
    store.close()
    later.close()


def test_a_full_disk_is_said_once_and_the_run_goes_on(
    tmp_path: Path, config: Config, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third output finds no room half-way: what came before is whole, the rest stays in memory."""
    expected = step_metrics(train_run(config, data, tmp_path / "one").run)
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "full"))
    append, calls = TrunkStore._append, []

    def appended(self: TrunkStore, head: bytes, payload: memoryview) -> tuple[Path, int]:
        calls.append(1)
        if len(calls) < 3:
            return append(self, head, payload)
        assert self._writer is not None
        with self._writer.open("ab") as file:
            file.write(head)
            file.write(payload[:100])
        return no_room()

    notes = Notes()
    with monkeypatch.context() as patched:
        patched.setattr(TrunkStore, "_append", appended)
        assert step_metrics(train_run(config, data, tmp_path / "two", reporter=notes).run) == expected
    assert len(calls) == 3
    assert len([line for line in notes.lines if "No space left" in line]) == 1
    (path,) = cache_directory().glob("trunk/*/*")
    again = Notes()
    assert step_metrics(train_run(config, data, tmp_path / "three", reporter=again).run) == expected
    assert not [line for line in again.lines if line.startswith("Trunk cache")]
    assert len(list(path.parent.iterdir())) == 2


def test_a_write_that_fails_half_way_is_taken_back(tmp_path: Path) -> None:
    """A limit on the size of a file: the first output fits, of the second a part would."""
    code = (
        "import resource, signal, sys, torch\nfrom pathlib import Path\n"
        "from penchant.objective.trunk_store import TrunkStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))\n"
        "notes = []\nkeys = {0: b'a' * 32, 1: b'b' * 32, 2: b'c' * 32}\n"
        "store = TrunkStore(Path(sys.argv[1]), 'store', keys=keys, max_bytes=1 << 20, note=notes.append)\n"
        "print([store.write(index, torch.ones(3, 2)) for index in keys], len(notes))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[True, False, False] 1\n"
    (path,) = (tmp_path / "store").iterdir()
    assert path.stat().st_size == HEADER + 24


@pytest.mark.parametrize("which", ["trunk", "reference"])
def test_a_cache_that_cannot_be_written_stops_no_run(
    tmp_path: Path, config: Config, data: Path, which: str
) -> None:
    """A file stands where the folder should be: said once, and the metrics are the same."""
    cache_directory().mkdir(exist_ok=True)
    (cache_directory() / which).write_text("", encoding="utf-8")
    notes = Notes()
    found = step_metrics(train_run(config, data, tmp_path / "one", reporter=notes).run)
    assert len([line for line in notes.lines if "cannot write" in line]) == 1
    (cache_directory() / which).unlink()
    assert step_metrics(train_run(config, data, tmp_path / "two").run) == found
