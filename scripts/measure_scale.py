"""Take the measurements that `simulate_scale` is calibrated on and judged by, and keep them in one JSON file.

    python -m scripts.measure_scale machine            # collectives, disk, hashes, tokenising, optimizer, stores
    python -m scripts.measure_scale runs               # every run of RUNS; or --only NAME ...

Each run is the real engine in a process of its own with a cache of its own, `bench.ours`. Which runs calibrate and
which are held out is decided here, before anything is measured: those held out differ in the model's size, in the
lengths, or in what is trained.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench.peers import child
from bench.plan_coverage import circumstances
from bench.rows import MAX_TOKENS, MIXES, write_made_up
from bench.work import Work
from torch import distributed
from torch.multiprocessing.spawn import spawn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from penchant.batching.packing import first_epoch_chunks
from penchant.batching.pair_batch import pair_group
from penchant.models.load import resolve_model
from penchant.objective.content_address import pair_keys
from penchant.objective.shards import Shard, ShardFolder, write_shard
from penchant.tokens.chat import chat_format
from penchant.training.checkpoint import save_checkpoint
from penchant.types import TokenizedPair
from penchant.workflow.setup import read_pairs, tokenize

FILE = Path(__file__).with_name("scale_measurements.json")
EPOCHS = 2
MICRO_BATCH_TOKENS = 2048
_MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """What is run.

    Attributes:
        set: "calibration", "seen" or "held_out".
        shape: One of `SHAPES`.
        mix: One of `bench.rows.MIXES`.
        part: "full", "last5" or "lora".
        dtype: "fp32" or "bf16".
        pairs: Rows.
        batch: Pairs a step.
    """

    set: str
    shape: str
    mix: str
    part: str
    dtype: str
    pairs: int
    batch: int


# width, layers, queries, keys, inner, vocabulary. The first is the bundled model, the others have random weights.
SHAPES: dict[str, tuple[int, ...]] = {
    "SmolLM2-135M": (576, 30, 576, 192, 1536, 49152),
    "narrow": (384, 12, 384, 128, 1024, 49152),
    "middle": (768, 16, 768, 256, 2048, 49152),
    "wide": (1152, 8, 1152, 384, 3072, 49152),
}
RUNS: dict[str, Run] = {
    "a": Run("calibration", "SmolLM2-135M", "hh-like", "last5", "fp32", 16, 8),
    "b": Run("calibration", "SmolLM2-135M", "hh-like", "full", "fp32", 8, 4),
    "c": Run("calibration", "narrow", "hh-like", "full", "fp32", 16, 8),
    "d": Run("calibration", "SmolLM2-135M", "hh-like", "last5", "bf16", 16, 8),
    "e": Run("calibration", "SmolLM2-135M", "hh-like", "full", "bf16", 8, 4),
    "f": Run("calibration", "narrow", "hh-like", "full", "bf16", 16, 8),
    "u": Run("calibration", "wide", "hh-like", "full", "fp32", 8, 4),
    "x": Run("calibration", "wide", "long-prompts", "last5", "bf16", 8, 4),
    # held out from a first calibration, on "a" to "f", that they proved wrong: see docs/scale.md
    "v": Run("seen", "SmolLM2-135M", "long-responses", "last5", "fp32", 8, 4),
    "w": Run("seen", "SmolLM2-135M", "hh-like", "lora", "fp32", 8, 4),
    "y": Run("seen", "SmolLM2-135M", "long-responses", "full", "bf16", 8, 4),
    # drawn up when the calibration was settled, and measured after
    "p": Run("held_out", "middle", "long-prompts", "full", "fp32", 8, 4),
    "q": Run("held_out", "SmolLM2-135M", "long-prompts", "lora", "bf16", 8, 4),
    "r": Run("held_out", "middle", "hh-like", "last5", "bf16", 16, 8),
    "s": Run("held_out", "wide", "long-responses", "lora", "fp32", 8, 4),
}


def main() -> None:
    """Measure what the command line names and add it to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["machine", "runs"])
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found["circumstances"] = {"date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}", **circumstances()}
    found["micro_batch_tokens"] = MICRO_BATCH_TOKENS
    if options.what == "machine":
        found["machine"] = measure_machine()
        _keep(found)
        return
    for name in options.only:
        runs = found.setdefault("runs", {})
        before = runs.get(name, {}).get("repeats", [])
        runs[name] = measure_run(RUNS[name], options.repeats)
        runs[name]["repeats"] = [*before, *runs[name]["repeats"]]  # sessions add up: the quickest counts
        _keep(found)
        print(name, RUNS[name], found["runs"][name]["repeats"], flush=True)


def _keep(found: dict[str, Any]) -> None:
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def measure_run(run: Run, repeats: int) -> dict[str, Any]:
    """Run it so many times; return its description, its pairs' lengths and what each time took."""
    with tempfile.TemporaryDirectory() as folder:
        model = _model(run.shape, Path(folder) / "model")
        chat = chat_format(AutoTokenizer.from_pretrained(model))
        rows = Path(folder) / "rows.jsonl"
        write_made_up(rows, MIXES[run.mix], run.pairs, chat)
        work = Work(model, str(rows), "", run.part, run.dtype, epochs=EPOCHS, batch=run.batch)
        pairs, ledger = read_pairs(rows, split=None)
        tokenized = list(tokenize(pairs, ledger, chat, work.config().data))
        chunks = first_epoch_chunks(
            [pair_group(pair).num_packed_tokens for pair in tokenized],
            steps=len(tokenized) // run.batch,
            batch=run.batch,
            max_tokens=MICRO_BATCH_TOKENS,
            seed=0,
        )
        times = [_once(work, Path(folder) / f"cache{number}") for number in range(repeats)]
    lengths = [[len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids)] for pair in tokenized]
    return {**asdict(run), "sizes": SHAPES[run.shape], "lengths": lengths, "passes": len(chunks), "repeats": times}


def _model(shape: str, folder: Path) -> str:
    bundled = resolve_model("bundled")
    if shape == "SmolLM2-135M":
        return bundled
    width, layers, queries, keys, inner, vocabulary = SHAPES[shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=queries // 64,
        num_key_value_heads=keys // 64,
        head_dim=64,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(bundled).save_pretrained(folder)
    return str(folder)


def _once(work: Work, cache: Path) -> dict[str, Any]:
    """Seconds of the reference and of the first and the last epoch's steps; peak; bytes left in the stores."""
    load = os.getloadavg()[0]
    found = child("bench.ours", cache, work.to_json())
    steps, half = found["step_seconds"], len(found["step_seconds"]) // EPOCHS
    return {
        "reference_seconds": found["reference_seconds"],
        "first_epoch_seconds": sum(steps[:half]),
        "epoch_seconds": sum(steps[-half:]),
        "steps": half,
        "trained_parameters": found["trained_parameters"],
        "peak_bytes": found["peak_bytes"],
        "reference_store_bytes": _bytes_below(cache / "reference"),
        "trunk_store_bytes": _bytes_below(cache / "trunk"),
        "load_before": load,
    }


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_machine() -> dict[str, Any]:
    """Return everything that is no run: seconds, bytes a second, bytes a pair."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        return {
            **_disk(Path(folder)),
            **_checkpoint(Path(folder)),
            **_opening_a_store(Path(folder)),
            **_tokenising(Path(folder)),
            "optimizer_seconds_per_parameter": _optimizer(),
            "all_reduce": _all_reduce(),
        }


def _seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return median(taken)


def _disk(folder: Path) -> dict[str, float]:
    block, file = os.urandom(256 * _MIB), folder / "block"

    def write() -> None:
        with file.open("wb") as out:
            out.write(block)
            out.flush()
            os.fsync(out.fileno())

    def read() -> None:
        with file.open("rb", buffering=0) as source:
            os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while source.read(8 * _MIB):
                pass

    return {
        "write_bytes_per_second": len(block) / _seconds(write),
        "read_bytes_per_second": len(block) / _seconds(read),
        "sha256_bytes_per_second": len(block) / _seconds(lambda: hashlib.sha256(block).digest()),
        "crc32_bytes_per_second": len(block) / _seconds(lambda: zlib.crc32(block)),
    }


def _checkpoint(folder: Path) -> dict[str, float]:
    """A checkpoint of 46 million trained parameters in as many tensors as five layers have."""
    rows = 1000
    weights = torch.nn.ParameterList([torch.nn.Parameter(torch.randn(rows, 1000)) for _ in range(46)])
    optimizer = torch.optim.AdamW(weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    step = iter(range(1, 100))
    seconds = _seconds(lambda: save_checkpoint(folder / "checkpoints", next(step), weights, optimizer, {}))
    return {"checkpoint_parameters": 46 * rows * 1000, "checkpoint_seconds": seconds}


def _opening_a_store(folder: Path) -> dict[str, float]:
    """What a run does for each pair before its first step when the store already knows it: key, shard, sum."""
    pairs, tokens = 8192, 90
    ids = torch.randint(40_000, (pairs, 3, tokens)).tolist()
    made = [
        TokenizedPair(str(number), tuple(prompt), tuple(chosen), tuple(rejected))
        for number, (prompt, chosen, rejected) in enumerate(ids)
    ]
    shard = Shard(
        torch.randint(256, (pairs, 32), dtype=torch.uint8),
        torch.full((pairs, 2), tokens, dtype=torch.int32),
        torch.randn(pairs * 2 * tokens),
    )
    chunks = [list(range(start, start + 8)) for start in range(0, pairs, 8)]
    tracemalloc.start()
    keys = pair_keys(made, chunks, "fp32")
    by_key = {key: [index] for index, key in keys.items()}
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    write_shard(folder / "store", shard)

    def read() -> None:
        for one in ShardFolder(folder / "store", print).read():
            one.sums()
            [by_key.get(key) for key in map(bytes, one.keys.numpy())]

    return {
        "store_pairs": pairs,
        "store_bytes_per_pair": _bytes_below(folder / "store") / pairs,
        "store_tokens_per_pair": 2 * tokens,
        "key_seconds_per_pair": _seconds(lambda: pair_keys(made, chunks, "fp32")) / pairs,
        "store_seconds_per_pair": _seconds(read) / pairs,
        "key_bytes_in_memory_per_pair": held / pairs,
    }


def _tokenising(folder: Path) -> dict[str, float]:
    """Reading and tokenising, one process; made-up rows of HH's lengths."""
    model = resolve_model("bundled")
    chat = chat_format(AutoTokenizer.from_pretrained(model))
    rows, count = folder / "rows.jsonl", 2000
    write_made_up(rows, MIXES["hh-like"], count, chat)
    work = Work(model, str(rows), "", "last5", "fp32", epochs=1, batch=8)
    read = _seconds(lambda: read_pairs(rows, split=None), 2)
    pairs, ledger = read_pairs(rows, split=None)
    seconds = _seconds(lambda: tokenize(pairs, ledger, chat, work.config().data), 2)
    return {
        "reading_seconds_per_pair": read / count,
        "tokenising_seconds_per_pair": seconds / count,
        "tokenising_tokens_per_pair": sum(
            pair.num_tokens for pair in tokenize(pairs, ledger, chat, work.config().data)
        )
        / count,
        "max_tokens": MAX_TOKENS,
    }


def _optimizer() -> float:
    weight = torch.nn.Parameter(torch.randn(46_000, 1000))
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW([weight], fused=True)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        optimizer.step()

    step()
    return _seconds(step) / weight.numel()


def _all_reduce() -> list[dict[str, float]]:
    """Two gloo processes on this machine, one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_reduce_in, args=(folder,), nprocs=2)
        return json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))


def _reduce_in(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    found = []
    for size in (1 << 16, 4 * _MIB, 32 * _MIB, 128 * _MIB, 184_000_000):
        tensor = torch.ones(size // 4)
        distributed.all_reduce(tensor)
        repeats = 20 if size < _MIB else 5
        found.append({"bytes": size, "seconds": _seconds(lambda: distributed.all_reduce(tensor), repeats)})  # noqa: B023
    distributed.destroy_process_group()
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
