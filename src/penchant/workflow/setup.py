"""What training, evaluation and scoring have in common: tokenized pairs, and a model that scores them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from penchant.config import Config, DataConfig, EngineConfig, build_config
from penchant.data.ledger import FATES, Ledger
from penchant.data.source import load_pairs
from penchant.errors import DataError, ModelError, UsageError
from penchant.models.activation_memory import available_bytes, needs_checkpointing, predicted_bytes
from penchant.models.attention_check import choose_attention
from penchant.models.bundled import cache_directory
from penchant.models.capability import no_prefix_sharing_reason
from penchant.models.load import LoadedModel
from penchant.models.precision import Precision, choose_device, choose_precision
from penchant.objective.pair_model import PairModel
from penchant.processes import first_one_first, world_size
from penchant.strict_yaml import read_yaml
from penchant.tokens.chat import ChatFormat, tokenize_pair
from penchant.tokens.store import Mapped, open_store
from penchant.tokens.unpaired import labelled_responses
from penchant.types import PreferencePair, TokenizedPair
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper, stoppable_progress
from penchant.workflow.token_memory import TokenMemory

WORTH_STORING = 5000  # pairs; fewer are tokenized in less time than a store is worth
_LIBRARIES = ("penchant", "torch", "transformers", "safetensors", "tokenizers")


def set_threads(engine: EngineConfig) -> None:
    """Use as many CPU threads as configured; without a number, all cores."""
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)


def run_config(run: Path, overrides: Sequence[str] = ()) -> Config | None:
    """Return the configuration of a finished run, or None when the path is no such thing.

    Raises:
        UsageError: The configuration, or an override, cannot be read.
    """
    file = run / "config.yaml"
    if not (file.is_file() and (run / "model").is_dir()):
        return None
    values = read_yaml(file)
    values.pop("run", None)  # the circumstances, which are no settings
    return build_config(values, overrides, where=str(file))


def read_pairs(path: Path, *, split: str | None, limit: int | None = None) -> tuple[list[PreferencePair], Ledger]:
    """Return the pairs of a file, or of a folder's split, and the ledger of their rows."""
    return load_pairs(path, split=split if path.is_dir() else None, limit=limit)


def tokenize(
    pairs: Sequence[PreferencePair],
    ledger: Ledger,
    chat: ChatFormat,
    config: DataConfig,
    *,
    memory: TokenMemory | None = None,
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> Sequence[TokenizedPair]:
    """Return the pairs as ids; what does not fit is cut or dropped, and the ledger says so.

    Many pairs are kept in a store on disk, from which later runs take them, and are read from there. Fewer are
    taken from the `memory`, if one is given.

    Raises:
        DataError: No pair is left.
    """
    if len(pairs) < WORTH_STORING:
        if memory is None:
            outcomes = [tokenize_pair(pair, chat, config) for pair in pairs]
        else:
            outcomes = memory.outcomes(pairs, chat, config)
        entries = [entry for _, entry in outcomes]
        kept: Sequence[TokenizedPair] = [tokenized for tokenized, _ in outcomes if tokenized is not None]
    else:
        reporter, stopper = reporter or Reporter(), stopper or Stopper()
        progress = stoppable_progress(reporter, stopper, "Tokenizing", len(pairs))
        with first_one_first(), progress as tokenized_one:  # the others find its store
            store = open_store(cache_directory() / "tokens", pairs, chat, config, on_pairs=tokenized_one)
        kept, entries = store, list(store.entries(pairs))
    for entry in entries:
        ledger.revise(entry)
    if not kept:
        raise DataError(
            f"no pair is left: {_counts(ledger)}",
            where=pairs[0].source if pairs else None,
            fix="Raise data.max_tokens, or look at the rows.",
        )
    return kept


def require_chat_format(chat: ChatFormat, config: Config) -> None:
    """Check that the model knows conversations in the form that it is to be trained on.

    Raises:
        ModelError: It is to be trained on its chat template, and has none.
    """
    if config.data.format not in ("chat", "trl_chat") or chat.has_template:
        return
    raise ModelError(
        "the tokenizer has no chat template, so this is a base model, which has learnt no form of conversation",
        where=config.model.path,
        fix="Start from the instruct model of its family; or train with --set data.format=transcript, first the "
        "likelihood (penchant sft), then the preferences (penchant train, from its model/). "
        "--set data.format=plain takes prompts of one turn as bare text.",
    )


def describe_ledger(ledger: Ledger) -> str:
    """Return one line that says what became of all rows."""
    counts = ledger.counts()
    fates = ", ".join(f"{counts.get(fate, 0)} {fate}" for fate in FATES)
    line = f"{len(ledger)} rows: {fates}"
    reasons = _counts(ledger)
    return f"{line} ({reasons})" if reasons else line


def _counts(ledger: Ledger) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(ledger.reasons().items()))


def with_random_labels(pairs: Sequence[TokenizedPair], seed: int) -> Sequence[TokenizedPair]:
    """Return the pairs with chosen and rejected swapped by a fair coin each: a control without preference."""
    coin = random.Random(f"labels {seed}")
    swaps = [coin.random() < 0.5 for _ in pairs]
    return Mapped(lambda place: pairs[place].swapped() if swaps[place] else pairs[place], range(len(pairs)))


def training_examples(config: Config, pairs: Sequence[TokenizedPair]) -> Sequence[TokenizedPair]:
    """Return what the objective is trained on: the pairs, or what it makes of them.

    Random labels are drawn (data.random_labels), prompts scored (objective.logps: mean_all), and pairs taken apart
    into labelled responses (objective.loss: kto), where that is configured.

    Raises:
        UsageError: The loss compares two responses, and the data has single ones with labels.
    """
    if config.data.random_labels:
        pairs = with_random_labels(pairs, config.train.seed)
    if "kto" in config.objective.losses:
        pairs = labelled_responses(pairs, max_tokens=config.data.max_tokens, seed=config.train.seed)
    elif set(config.objective.losses) != {"sft"} and pairs[0].desirable is not None:
        raise UsageError(
            f'objective.loss "{" + ".join(config.objective.losses)}" compares two responses; this data has single '
            "responses with a label",
            fix="Choose objective.loss=kto, which judges single responses.",
        )
    if config.objective.logps == "mean_all":
        pairs = Mapped(TokenizedPair.with_scored_prompt, pairs)
    return pairs


def scoring_model(
    loaded: LoadedModel,
    engine: EngineConfig,
    *,
    max_tokens: int,
    trunk_layers: int,
    reporter: Reporter,
    step_tokens: int | None = None,
) -> PairModel:
    """Return the model ready to score packed pairs, or separate sequences where it cannot share a prefix.

    Args:
        loaded: The model.
        engine: How it is computed.
        max_tokens: Longest prompt + response.
        trunk_layers: Lower layers that are not trained.
        reporter: Hears what is not as asked, and what was chosen.
        step_tokens: Of the largest micro-batch that will be differentiated; None when nothing is trained.

    Raises:
        UsageError: Trunk sharing or compilation was asked for by name, and cannot be had.
    """
    reason = no_prefix_sharing_reason(loaded.model, max_tokens)
    sharing = engine.prefix_sharing and reason is None
    if engine.prefix_sharing and reason is not None:
        reporter.note(f"Prompts are not shared between responses: {reason}. Each response is computed by itself.")
    if not sharing and engine.trunk_sharing and trunk_layers and "trunk_sharing" in engine.model_fields_set:
        raise UsageError(
            "engine.trunk_sharing needs engine.prefix_sharing, which is off or not to be had for this model",
            fix="Remove engine.trunk_sharing, or set it to false.",
        )
    if engine.compile and not sharing:
        raise UsageError(
            "engine.compile needs engine.prefix_sharing, which is off or not to be had for this model",
            fix="Remove engine.compile.",
        )
    device = str(loaded.model.device)
    precision = choose_precision(engine.precision, device)
    kernel = _attention(loaded.model, engine, precision, reporter) if sharing else None
    return PairModel(
        loaded.model,
        trunk_layers=trunk_layers if sharing and engine.trunk_sharing else 0,
        prefix_sharing=sharing,
        precision=precision,
        pad_id=loaded.pad_id,
        head_once=engine.head_once,
        last_layer_pruning=engine.last_layer_pruning,
        attention=kernel or "sdpa",
        checkpointing=_checkpointing(loaded.model, engine, trunk_layers, step_tokens, precision, kernel, reporter),
        compiled=engine.compile,
    )


def _checkpointing(
    model: PreTrainedModel,
    engine: EngineConfig,
    trunk_layers: int,
    step_tokens: int | None,
    precision: Precision,
    kernel: str | None,
    reporter: Reporter,
) -> bool:
    """Whether trained layers are computed twice; one line says so if nobody asked for it."""
    if engine.activation_checkpointing != "auto":
        return engine.activation_checkpointing
    if step_tokens is None:
        return False
    predicted = predicted_bytes(
        model, first_layer=trunk_layers, tokens=step_tokens, precision=precision, kernel=kernel
    )
    available = available_bytes(model)
    if not needs_checkpointing(predicted, available):
        return False
    reporter.note(
        f"Trained layers are computed again in the backward pass: a micro-batch of {step_tokens} tokens would "
        f"keep {predicted / 1e9:.1f} GB for it, and {max(available or 0, 0) / 1e9:.1f} GB are free "
        "(a smaller engine.micro_batch_tokens, or LoRA, takes less)."
    )
    return True


def _attention(model: PreTrainedModel, engine: EngineConfig, precision: Precision, reporter: Reporter) -> str:
    """The kernel for packed rows on this device; one line says why it is not the fastest."""
    config: Any = model.config
    heads = config.num_attention_heads
    choice = choose_attention(
        model.device,
        torch.bfloat16 if precision == "bf16" else torch.float32,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
        asked=engine.attention,
    )
    if model.device.type == "cuda":
        reporter.note(f"Attention: {choice.name} ({choice.reason})")
    return choice.name


def fingerprint(pairs: Sequence[TokenizedPair]) -> str:
    """Return the SHA-256 of all that training uses of pairs, in their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        told = (pair.weight, pair.margin, pair.confidence, pair.desirable)
        numbers = [value for value in told if value is not None]
        digest.update(json.dumps([pair.id, *pair.scored_content, *numbers]).encode())
    return digest.hexdigest()


def circumstances(engine: EngineConfig) -> dict[str, Any]:
    """Return what a result depends on beside the configuration: versions, machine, code."""
    device = choose_device(engine.device)
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "versions": {"python": platform.python_version(), **versions},
        "machine": describe_machine(device),
        "device": device,
        "precision": choose_precision(engine.precision, device),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "git": _git_state(),
    }


def describe_machine(device: str) -> str:
    """Return the processor or accelerator in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return f"{cpu}, {torch.get_num_threads()} threads"


def _git_state() -> str:
    """The commit of the source tree that is run, with a mark when it has changes; "" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
