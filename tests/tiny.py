"""Tiny models and tokenizers, built in the test: no network, a second at most."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, START, END = range(3)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = "the a sun moon rain wind tree river stone bird sings falls shines blue cold warm slowly often never".split()


def tiny_tokenizer(*, template: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 259 tokens whose end-of-turn token ends every response."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[START],
        eos_token=SPECIAL[END],
        pad_token=SPECIAL[END],  # the trap: padding that equals the end of a response
        unk_token=SPECIAL[PAD],
    )
    if template:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_llama(*, layers: int = 4, tied: bool = False, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A random Llama whose outputs differ well from uniform."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": tied,
        "eos_token_id": END,
        "bos_token_id": START,
        "pad_token_id": PAD,
    }
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).eval()


def save_tiny(path: Path, model: PreTrainedModel | None = None, *, template: bool = True) -> Path:
    """Write a model directory with a tokenizer and return it."""
    (model or tiny_llama()).save_pretrained(path)
    tiny_tokenizer(template=template).save_pretrained(path)
    return path


def sentence(coin: random.Random, low: int, high: int) -> str:
    """A few random words."""
    return " ".join(coin.choice(WORDS) for _ in range(coin.randint(low, high)))


def pair_rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of prompt, chosen and rejected; the chosen speaks of the sun, so that a preference can be learnt."""
    coin = random.Random(seed)
    rows = []
    for index in range(count):
        prompt = sentence(coin, 2, 6)
        rows.append(
            {
                "id": f"row-{index}",
                "prompt": f"{prompt} {index}",
                "chosen": f"{sentence(coin, 1, 3)} sun shines",
                "rejected": f"{sentence(coin, 1, 5)} rain falls",
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as jsonl and return the file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
