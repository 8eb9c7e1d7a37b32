"""Lengths of real pairs as quantiles, for `simulate_scale`: no text, and no row but its three lengths.

    python -m scripts.measure_lengths hh_rlhf=HH.jsonl.gz:512 ultrafeedback=UF.jsonl:2048

Pairs are tokenised as SmolLM2 reads them, cut at so many tokens, and sorted by tokens; the lengths (prompt,
chosen, rejected) of the pairs at the middles of 64 equal parts are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from transformers import AutoTokenizer

from penchant.config import build_config
from penchant.models.load import resolve_model
from penchant.tokens.chat import ChatFormat, chat_format
from penchant.workflow.setup import read_pairs, tokenize

FILE = Path(__file__).with_name("scale_lengths.json")
QUANTILES = 64


def quantiles(rows: Path, chat: ChatFormat, max_tokens: int) -> list[list[int]]:
    """Return the lengths of the pairs at the middles of 64 equal parts, shortest first."""
    config = build_config({"model": {"path": "bundled"}, "data": {"max_tokens": max_tokens}})
    pairs, ledger = read_pairs(rows, split=None)
    lengths = [
        (len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids))
        for pair in tokenize(pairs, ledger, chat, config.data)
    ]
    lengths.sort(key=lambda one: (sum(one), one))
    return [list(lengths[int((place + 0.5) * len(lengths) / QUANTILES)]) for place in range(QUANTILES)]


def main() -> None:
    """Write the quantiles of the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="NAME=FILE:MAX_TOKENS")
    chat = chat_format(AutoTokenizer.from_pretrained(resolve_model("bundled")))
    found = {}
    for word in parser.parse_args().rows:
        name, _, rest = word.partition("=")
        file, _, most = rest.rpartition(":")
        found[name] = {"max_tokens": int(most), "quantiles": quantiles(Path(file), chat, int(most))}
    FILE.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
