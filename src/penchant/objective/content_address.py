"""Names for computed results: what they depend on, and nothing else.

A store is named by everything but the pairs: weights, configuration, and how it is computed. Inside, a pair is
found by what it says. So a result can be missing, but not stale, and whatever does not enter a name (beta,
learning rate, loss, the order and number of pairs, the output folder) reuses what is there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from penchant.models.freeze import decoder, final_norm, layers
from penchant.objective.pair_model import PairModel
from penchant.types import TokenizedPair

# Part of every name. Raise it whenever the engine computes the same thing in another way (attention, head,
# layout): what was stored before is then no longer found.
ENGINE_VERSION = 1
KEY_BYTES = 32
# of a model's configuration: they say where it came from or how it is handled, not what it computes
_INERT = {"_name_or_path", "architectures", "dtype", "tie_word_embeddings", "transformers_version", "use_cache"}


def pair_keys(pairs: Sequence[TokenizedPair], chunks: Sequence[Sequence[int]], precision: str) -> dict[int, bytes]:
    """Return the key of every pair of the chunks, by index; pairs of one content have one key.

    In bf16 a row's rounding depends on how many rows share a matrix product, so there a key also covers what
    shares the pair's pass and its place there; two pairs of one content are then two.

    Args:
        pairs: Tokenized pairs.
        chunks: Which pairs share a pass, each at most once.
        precision: What matrix products are computed in.
    """
    keys: dict[int, bytes] = {}
    for chunk in chunks:
        contents = [hashlib.sha256(json.dumps(pairs[index].scored_content).encode()).digest() for index in chunk]
        shared = hashlib.sha256(b"".join(contents)).digest()
        for place, (index, content) in enumerate(zip(chunk, contents, strict=True)):
            in_pass = hashlib.sha256(f"{place} ".encode() + shared).digest()
            keys[index] = in_pass if precision == "bf16" else content
    return keys


def reference_facts(model: PairModel, weights: str) -> dict[str, str]:
    """Return what token log-probabilities depend on beside the pairs.

    Args:
        model: What scores.
        weights: Digest of its weights.
    """
    facts = {"of": "token log-probabilities", "weights": weights, **_arithmetic(model)}
    if model.precision == "bf16":  # frozen layers round their results, those above do not
        facts["frozen"] = str(model.trunk_layers)
    return facts


def trunk_facts(model: PairModel) -> dict[str, str]:
    """Return what the outputs of a model's frozen layers depend on beside the pairs. Hashes their parameters."""
    return {
        "of": f"outputs of {model.trunk_layers} layers",
        "weights": _trunk_digest(model),
        **_arithmetic(model),
    }


def store_name(facts: Mapping[str, str]) -> str:
    """Return the name of the store for such facts: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _arithmetic(model: PairModel) -> dict[str, str]:
    config = {name: value for name, value in model.model.config.to_dict().items() if name not in _INERT}
    text = json.dumps([type(model.model).__name__, config], sort_keys=True, default=str)
    device = model.device.split(":", maxsplit=1)[0]
    facts = {
        "engine": str(ENGINE_VERSION),
        "configuration": hashlib.sha256(text.encode()).hexdigest(),
        "precision": model.precision,
        "layout": "packed" if model.prefix_sharing else "separate",
        "paths": f"{model.attention} {model.last_layer_pruning} {model.compiled}",
        "device": f"{device} {_device_kind(device)}",
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }
    if device == "cpu" and model.precision == "bf16":  # threads share out a product, and each rounds its share
        facts["threads"] = str(torch.get_num_threads())
    return facts


def _device_kind(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return torch.backends.cpu.get_cpu_capability() if device == "cpu" else ""


def _trunk_digest(model: PairModel) -> str:
    stack = decoder(model.model)
    above = [*layers(stack), final_norm(stack)]
    others = {id(parameter) for module in above for parameter in module.parameters()}
    parts = [("embeddings", [p for p in stack.parameters() if id(p) not in others])]
    parts += [(str(i), list(layer.parameters())) for i, layer in enumerate(layers(stack)[: model.trunk_layers])]

    def digest(part: tuple[str, list[torch.nn.Parameter]]) -> str:
        found = hashlib.sha256(part[0].encode())
        for parameter in part[1]:
            plain = parameter.detach().cpu().contiguous()
            found.update(f"{tuple(plain.shape)} {plain.dtype}\n".encode())
            found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:  # hashing lets go of the lock
        digests = list(pool.map(digest, parts))
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()
