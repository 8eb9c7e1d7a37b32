"""Tiny models whose tokenizers merge, which a GGUF file wants, in every family and cut that can be written."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny import CHAT_TEMPLATE, END, PAD, SPECIAL, START, WORDS, tiny_family
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from penchant.models.gguf_export.tokenizer import LLAMA3_SPLIT, QWEN2_SPLIT
from penchant.models.load import LoadedModel
from penchant.tokens.chat import chat_format

ROWS = 448  # of the embedding; there are fewer tokens
FAMILY_CHANGES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": None},
    "Qwen2": {},
    "Qwen3": {"head_dim": 128},
}
CUTS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama-bpe": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "qwen2": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}


@cache
def merging_backend(cut: str) -> str:
    """A byte-level tokenizer.json that was trained on a few sentences, cut in one of the ways that have a name."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=cut == "llama-bpe"))
    tokenizer.pre_tokenizer = CUTS[cut]
    tokenizer.decoder = decoders.ByteLevel()
    if cut == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=430, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    numbers = ["in 1984 there were 12,345.67 of  3 and   42\n\n 22   333 4444  1 WE'VE don't ------ ===="] * 20
    text = [*numbers, *(f"the {word}  {word} 2024" for word in WORDS)]
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer.to_str()


def merging_tokenizer(cut: str = "gpt-2", *, template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """Such a tokenizer, with a token more that is not special, as thinking models have."""
    tokenizer = Tokenizer.from_str(merging_backend(cut))
    tokenizer.add_tokens([AddedToken("<think>", normalized=False, special=False)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[START],
        eos_token=SPECIAL[END],
        pad_token=SPECIAL[PAD],
        unk_token=SPECIAL[PAD],
    )
    fast.chat_template = template
    return fast


def gguf_model(name: str = "Llama", *, tied: bool = False, cut: str = "gpt-2", **changes: Any) -> LoadedModel:
    """A tiny model of a family that can be written, ready as `load_model` would return it."""
    model = tiny_family(name, layers=2, tied=tied, vocab_size=ROWS, **{**FAMILY_CHANGES[name], **changes})
    return LoadedModel(model, chat_format(merging_tokenizer(cut)), "tiny", (END,), PAD)


def save_gguf_model(path: Path, name: str = "Llama", **settings: Any) -> Path:
    """Write its directory and return it."""
    loaded = gguf_model(name, **settings)
    loaded.model.save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    return path
