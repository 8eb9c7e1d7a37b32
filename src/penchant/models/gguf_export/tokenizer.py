"""A byte-level BPE tokenizer as GGUF metadata, and back.

The file holds tokens, merges and the *name* of the way text is cut before merging; each reader has its own table
of these names. A wrong name gives almost the right ids, which nobody notices. So the name is found from the
tokenizer's own rules, never from the model's name, and a tokenizer whose rules are not in the table is refused.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Regex, pre_tokenizers
from transformers import AutoTokenizer

from penchant.errors import ModelError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA3_SPLIT = rf"{_CONTRACTIONS}{_WORDS}|\p{{N}}{{1,3}}{_REST}"
QWEN2_SPLIT = rf"{_CONTRACTIONS}{_WORDS}|\p{{N}}{_REST}"
_SPLITS = {LLAMA3_SPLIT: "llama-bpe", QWEN2_SPLIT: "qwen2"}
_BYTES = "Only byte-level BPE is written (GPT-2's kind, such as SmolLM2, Llama 3, Qwen)."


def pre_tokenizer_name(tokenizer: Any, *, where: str) -> str:
    """Return llama.cpp's name for the way in which a tokenizer cuts text before merging.

    Raises:
        ModelError: It is no byte-level BPE, or llama.cpp has no name for what it does.
    """
    rules = _rules(tokenizer, where)
    model = rules["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback") or model.get("continuing_subword_prefix"):
        raise ModelError(
            f"a tokenizer of the kind {model.get('type')} is not written as GGUF", where=where, fix=_BYTES
        )
    normalizer = (rules.get("normalizer") or {}).get("type")
    if not model.get("merges"):
        raise ModelError("its tokenizer merges nothing, and GGUF has no form for that", where=where, fix=_BYTES)
    name = _name_of_steps(_steps(rules.get("pre_tokenizer")))
    allowed = (None, "NFC") if name == "qwen2" else (None,)
    if name is None or normalizer not in allowed or bool(model.get("ignore_merges")) != (name == "llama-bpe"):
        raise ModelError(
            "its tokenizer cuts text in a way that has no name in llama.cpp that is known here, and another "
            "name would give other ids without a word",
            where=where,
            fix="penchant export --to hf keeps the tokenizer as it is.",
        )
    return name


def _name_of_steps(steps: list[dict[str, Any]]) -> str | None:
    kinds = [step.get("type") for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    cuts = steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and cuts:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and cuts:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not cuts and _isolates(steps[0]):
        return _SPLITS.get((steps[0].get("pattern") or {}).get("Regex", ""))
    return None


def _isolates(step: dict[str, Any]) -> bool:
    return step.get("behavior") == "Isolated" and not step.get("invert")


def _steps(pre_tokenizer: Any) -> list[dict[str, Any]]:
    if not isinstance(pre_tokenizer, dict):
        return []
    return pre_tokenizer["pretokenizers"] if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]


def _rules(tokenizer: Any, where: str) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("a tokenizer without tokenizer.json is not written as GGUF", where=where, fix=_BYTES)
    return json.loads(backend.to_str())


def add_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: Any, *, rows: int, end_id: int, template: str | None, where: str
) -> None:
    """Write tokens, merges, special tokens and chat template into the file's metadata.

    Args:
        writer: The file.
        tokenizer: transformers' tokenizer.
        rows: Rows of the embedding; those without a token are filled with unused names.
        end_id: The token that ends a response.
        template: The chat template, if there is one.
        where: What the user called the model, for errors.

    Raises:
        ModelError: See `pre_tokenizer_name`; or there are more tokens than rows.
    """
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(tokenizer, where=where))
    tokens, kinds = _tokens(tokenizer, rows, where)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = _rules(tokenizer, where)["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for add, found in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_eot_token_id, end_id),
    ):
        if found is not None:
            add(int(found))
    writer.add_add_bos_token(_adds_bos(tokenizer))
    if template is not None:
        writer.add_chat_template(template)


def _adds_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def _tokens(tokenizer: Any, rows: int, where: str) -> tuple[list[str], list[int]]:
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    if by_id and max(by_id) >= rows:
        raise ModelError(f"its tokenizer has more tokens than the embedding has rows ({rows})", where=where)
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids) | {index for index, token in added.items() if token.special}
    tokens, kinds = [], []
    for index in range(rows):
        if index not in by_id:
            tokens.append(f"[PAD{index}]")
            kinds.append(gguf.TokenType.UNUSED)
            continue
        tokens.append(by_id[index])
        if index in special:
            kinds.append(gguf.TokenType.CONTROL)
        else:
            kinds.append(gguf.TokenType.USER_DEFINED if index in added else gguf.TokenType.NORMAL)
    return tokens, [int(kind) for kind in kinds]


def read_tokenizer(file: Path) -> tuple[Any, str]:
    """Return the tokenizer of a GGUF file as transformers reads it, and what was mended of that, "" for nothing.

    transformers' reader gives SmolLM's cutting of digits (`smollm`) as GPT-2's, and forgets that Llama 3 takes
    whole words of the vocabulary without merging. llama.cpp does both by the name in the file; so does what is
    returned.
    """
    with tempfile.TemporaryDirectory() as folder:  # no other file beside it is to have a say
        Path(folder, "model.gguf").symlink_to(file.resolve())
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf", trust_remote_code=False)
    field = gguf.GGUFReader(file).get_field("tokenizer.ggml.pre")
    name = "" if field is None else str(field.contents())
    backend = tokenizer.backend_tokenizer
    if name == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        return tokenizer, "transformers' reader leaves out that digits are cut apart (smollm); mended to compare"
    if name == "llama-bpe":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.model.ignore_merges = True
        return tokenizer, "transformers' reader leaves out that whole words are not merged (llama-bpe); mended"
    return tokenizer, ""
