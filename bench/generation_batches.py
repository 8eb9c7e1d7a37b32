"""How fast the bundled model answers in batches of several sizes, and how many answers differ between them.

    python -m bench.generation_batches --prompts xstest_prompts.csv --precision bf16 --batches 32,1

In fp32 none should: scores then differ by rounding alone. In bf16 sums of another order round to other numbers,
ties are common, and an answer goes another way from the first token on which two batches disagree.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from penchant.data.prompt_sets import read_prompts
from penchant.evaluation.stats import wilson
from penchant.generation.answers import answer_prompts
from penchant.models.load import load_model
from penchant.types import Sampling


def main() -> None:
    """Print a JSON line for each size of batch; the first one is what the others are compared with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batches", default="32,1", help="sizes with commas between them")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    loaded = load_model("bundled", bf16=given.precision == "bf16")
    prompts = read_prompts(given.prompts).prompts[: given.count]
    first: list[str] | None = None
    for rows in map(int, given.batches.split(",")):
        started, cpu = time.perf_counter(), time.process_time()
        answers = answer_prompts(
            loaded,
            prompts,
            max_new_tokens=given.max_new_tokens,
            sampling=Sampling(temperature=given.temperature),
            batch_rows=rows,
        )
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        texts, tokens = [row[0].text for row in answers], sum(row[0].tokens for row in answers)
        first = first or texts
        differ = sum(one != other for one, other in zip(first, texts, strict=True))
        interval = wilson(differ, len(texts))
        line = {
            "precision": given.precision,
            "temperature": given.temperature,
            "batch_rows": rows,
            "answers": len(texts),
            "tokens": tokens,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "tokens_per_cpu_second": round(tokens / cpu),
            "differ_from_first": differ,
            "share": round(interval.value, 3),
            "share_interval": [round(interval.low, 3), round(interval.high, 3)],
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
