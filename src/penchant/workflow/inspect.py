"""`penchant inspect`: read a prepared folder or any preference file, lint it, and look at single pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.config import DataConfig
from penchant.data.files import split_names
from penchant.data.ledger import Ledger
from penchant.data.lint import Finding, TokenOutcomes, lint
from penchant.data.source import load_pairs
from penchant.data.statistics import length_figures, pair_length
from penchant.errors import DataError, ModelError, UsageError, did_you_mean
from penchant.offline import hub_remedy
from penchant.reporting.inspect_page import InspectResult, ShownPair
from penchant.tokens.chat import ChatFormat, chat_format, tokenize_pair
from penchant.tokens.show import pieces
from penchant.types import LedgerEntry, PreferencePair, TokenizedPair
from penchant.workflow.reporter import Reporter

SHOWN_ROWS = 200
_MOST_SUGGESTED = 2000
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def inspect_folder(
    path: Path,
    *,
    split: str | None = None,
    row: str | None = None,
    rows: int = SHOWN_ROWS,
    chat: ChatFormat | None = None,
    tokenizer: str = "",
    config: DataConfig | None = None,
    token_checks: bool = False,
    reporter: Reporter | None = None,
) -> InspectResult:
    """Read pairs, lint them, and return what a terminal or a page shows of them.

    Args:
        path: A prepared folder, a folder with files called after splits, or one preference file.
        split: Read this split only; without it all splits are read, and prompts that two of them share are found.
        row: The pair to look at: its id, or its line in the file. By default the first pair.
        rows: How many pairs from the first on are shown, at most.
        chat: Turns the shown pairs into tokens; None shows them as text alone.
        tokenizer: What to call `chat`.
        config: How pairs are cut.
        token_checks: Also tokenise all other pairs, for the checks of ids. It takes minutes for 100,000 pairs.
        reporter: Progress.

    Raises:
        DataError: Nothing can be read, or the folder was not finished.
        UsageError: There is no such split or row, or `token_checks` without `chat`.
    """
    if token_checks and chat is None:
        raise UsageError("the checks of tokens need a tokenizer", fix="Name a model with --model.")
    reporter, config = reporter or Reporter(), config or _default_data()
    read = _read(path, split)
    splits = {name: pairs for name, (pairs, _) in read.items()}
    dropped = {name: _dropped(ledger) for name, (_, ledger) in read.items()}
    prepared = _prepared_ledger(path)
    focus_split, focus = _wanted(row, read, prepared)
    shown = [(name, pair) for name, pairs in splits.items() for pair in pairs][:rows]
    evidence = _evidence(prepared, {pair.id for _, pair in (*shown, (focus_split, focus))})
    show = _Show(chat, config, evidence)
    reporter.note(f"Lint of {sum(map(len, splits.values()))} pairs")
    outcomes = _outcomes(splits, chat, config) if chat is not None and token_checks else None
    return InspectResult(
        path=path,
        rows={name: len(pairs) for name, pairs in splits.items()},
        dropped=dict(Counter(entry.reason for entries in dropped.values() for entry in entries)),
        figures={name: length_figures(pairs) for name, pairs in splits.items()},
        lengths=[pair_length(pair) for pairs in splits.values() for pair in pairs],
        findings=lint(splits, dropped=dropped, tokenized=outcomes),
        shown=[show(name, pair) for name, pair in shown],
        focus=show(focus_split, focus),
        tokenizer=tokenizer or ("the tokenizer given" if chat is not None else ""),
        max_tokens=config.max_tokens if chat is not None else 0,
        fates=dict(Counter((entry.fate, entry.reason) for entry in prepared or ()).most_common()),
        notes=_notes(chat, token_checks=token_checks),
    )


def check_findings(findings: Sequence[Finding], path: Path, *, strict: bool = False) -> None:
    """Return when data is fit to train on.

    Args:
        findings: What lint found.
        path: What was linted.
        strict: Warnings count like errors.

    Raises:
        DataError: It is not; the message names every check and how many pairs it concerns.
    """
    bad = [finding for finding in findings if strict or finding.severity == "error"]
    if not bad:
        return
    lines = [f"  {one.severity} {one.check}, {one.count}: {one.what} (first: {one.examples[0]})" for one in bad]
    raise DataError(
        "\n".join(["lint found what training data should not have", *lines]),
        where=str(path),
        fix=bad[0].advice if len(bad) == 1 else "`penchant inspect` without --check says what to do about each.",
    )


def load_chat(name: str) -> ChatFormat:
    """Return the chat format of a model without loading its weights.

    Args:
        name: "bundled", a model or run directory, a GGUF file, or a Hub id; also a folder with only a tokenizer.

    Raises:
        ModelError: There is no such model, or its tokenizer cannot be read.
    """
    from penchant.models.load import resolve_model
    from penchant.models.safe_config import read_safe_tokenizer

    folder = _tokenizer_folder(Path(name))
    source = str(folder) if folder is not None else resolve_model(name)
    try:
        return chat_format(read_safe_tokenizer(source))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[:1]
        hint = "A model directory holds tokenizer.json and tokenizer_config.json."
        raise ModelError(
            f"its tokenizer cannot be read ({''.join(reason)[:200]})",
            where=name,
            fix=hint if Path(source).exists() else hub_remedy("Name a model directory, or unset it.", hint),
        ) from error


def _tokenizer_folder(path: Path) -> Path | None:
    for folder in (path, path / "model"):
        if any((folder / name).is_file() for name in _TOKENIZER_FILES):
            return folder
    return None


def _default_data() -> DataConfig:
    return DataConfig()  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------------------ files

_Read = tuple[list[PreferencePair], Ledger]


def _read(path: Path, split: str | None) -> dict[str, _Read]:
    if path.is_dir() and (path / "ledger.parquet").is_file() and not (path / "card.json").is_file():
        raise DataError(
            "this folder was never finished: it has a ledger and no card.json",
            where=str(path),
            fix="Prepare the data again.",
        )
    if split is not None:
        return {split: load_pairs(path, split=split)}
    names = split_names(path) if path.is_dir() else []
    if not names:
        return {path.name.partition(".")[0] or "data": load_pairs(path)}
    return {name: load_pairs(path, split=name) for name in names}


def _dropped(ledger: Ledger) -> list[LedgerEntry]:
    return [entry for entry in ledger if entry.fate == "dropped"]


def _prepared_ledger(path: Path) -> Ledger | None:
    """Return the ledger of a prepared folder, None for other data."""
    file = path / "ledger.parquet"
    return Ledger.read(file) if path.is_dir() and file.is_file() else None


def _evidence(ledger: Ledger | None, ids: set[str]) -> dict[str, LedgerEntry]:
    return {entry.id: entry for entry in ledger or () if entry.id in ids and entry.fate != "dropped"}


# --------------------------------------------------------------------------------------------- one pair


def _wanted(row: str | None, read: Mapping[str, _Read], prepared: Ledger | None) -> tuple[str, PreferencePair]:
    every = [(name, pair) for name, (pairs, _) in read.items() for pair in pairs]
    if row is None:
        return every[0]
    for name, pair in every:
        if pair.id == row:
            return name, pair
    if row.isdecimal():
        for name, pair in every:
            if pair.line == int(row):
                return name, pair
    raise UsageError(_no_such_row(row, read, prepared), where="--row")


def _no_such_row(row: str, read: Mapping[str, _Read], prepared: Ledger | None) -> str:
    """Say why there is no such pair: it was dropped, or it never was."""
    entries = [entry for _, ledger in read.values() for entry in _dropped(ledger)]
    for entry in (*entries, *(_dropped(prepared) if prepared is not None else ())):
        if row == entry.id or (entry in entries and row.isdecimal() and int(row) == entry.line):
            return f"row {row} was dropped: {entry.reason} ({entry.evidence or 'no further evidence'})"
    if row.isdecimal():
        last = max(pair.line for pairs, _ in read.values() for pair in pairs)
        return f"there is no row {row}; the last one is on line {last}"
    ids = [pair.id for pairs, _ in read.values() for pair in pairs][:_MOST_SUGGESTED]
    near = did_you_mean(row, ids)
    return f'there is no row "{row}".' + (near if near.startswith(" Did") else "")


@dataclass(frozen=True)
class _Show:
    chat: ChatFormat | None
    config: DataConfig
    evidence: Mapping[str, LedgerEntry]

    def __call__(self, split: str, pair: PreferencePair) -> ShownPair:
        evidence = self.evidence.get(pair.id)
        if self.chat is None:
            return ShownPair(split, pair, evidence=evidence)
        tokenized, fate = tokenize_pair(pair, self.chat, self.config)
        parts = () if tokenized is None else tuple(pieces(tokenized, self.chat.tokenizer))
        return ShownPair(split, pair, parts, fate, evidence)


def _outcomes(
    splits: Mapping[str, Sequence[PreferencePair]], chat: ChatFormat, config: DataConfig
) -> TokenOutcomes:
    def outcomes(pairs: Sequence[PreferencePair]) -> Iterator[tuple[TokenizedPair | None, LedgerEntry]]:
        return (tokenize_pair(pair, chat, config) for pair in pairs)

    tokenizer: Any = chat.tokenizer
    ends = {chat.end_id, tokenizer.eos_token_id} - {None}
    return TokenOutcomes(
        {name: outcomes(pairs) for name, pairs in splits.items()},
        config.max_tokens,
        tokenizer.bos_token_id,
        frozenset(ends),
    )


def _notes(chat: ChatFormat | None, *, token_checks: bool) -> list[str]:
    if token_checks:
        return []
    missing = "double BOS and EOS, prompts that fill the window, responses that are equal once cut"
    remedy = "ask for them with --model" if chat is None else "naming a model with --model asks for them"
    return [f"The checks of ids did not run ({missing}); {remedy}."]
