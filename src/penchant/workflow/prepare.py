"""`penchant prepare`: from a preference source to clean, accounted pairs in a folder.

One pass reads and judges every row and lays the pairs that pass on disk; a draw then decides which of them stay,
by a rank that depends on the seed and the pair's name alone, so neither the order nor the number of rows matters.
In memory are a ledger entry and a few numbers a row, never the texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from penchant.config import PrepareConfig
from penchant.data.atomic import disk_errors
from penchant.data.card import readme, row_counts
from penchant.data.exclusions import Exclusion, excluded_entry, read_exclusions, said_digest
from penchant.data.files import split_names
from penchant.data.formats import FORMATS, DataFormat
from penchant.data.hub import load_hub, resolve_revision
from penchant.data.ledger import QUARANTINE, DropReason, Ledger
from penchant.data.prepared import finished_or_absent, prepared_row
from penchant.data.rows import BrokenRow, RawRow, iter_rows
from penchant.data.source import iter_pairs, pair_digest
from penchant.data.splits import SPLITS, Split, drawn, mixed_counts, rank, split_of
from penchant.data.statistics import PairLength, figures_of_lengths, pair_length
from penchant.data.strength import StrengthTally, decide, judge_all
from penchant.data.tagging import Tagger, load_tagger
from penchant.errors import DataError, PenchantError, UsageError
from penchant.tokens.chat import ChatFormat
from penchant.tokens.lengths import token_figures
from penchant.types import LedgerEntry, PreferencePair
from penchant.workflow.reporter import Reporter
from penchant.workflow.stopping import Stopper

_REPORT_EVERY = 1000  # rows between two reports of progress


@dataclass(frozen=True)
class Source:
    """One data set that goes into the prepared one.

    Attributes:
        name: What it is called in the card, and before the ids when there are several.
        format: How its rows are read.
        path: A file or folder; None reads the Hub.
        subset: Part of a data set on the Hub.
        revision: Commit, tag or branch on the Hub; None for the pinned one.
        weight: Its share of a mix, relative to the others.
    """

    name: str
    format: DataFormat
    path: Path | None = None
    subset: str | None = None
    revision: str | None = None
    weight: float = 1.0


@dataclass
class _Candidate:
    """A pair that passed, as far as the draw needs it. Its text is the line of the spool at its position."""

    source: int
    rank: int
    split: Split
    cluster: str
    length: PairLength
    entry: LedgerEntry


class _Stream(NamedTuple):
    """Rows that are read one after the other, and the split that they belong to when their source decides it."""

    split: Split | None
    rows: Iterable[RawRow | BrokenRow]


@dataclass
class _Reading:
    """What reading the sources came to."""

    ledger: Ledger = field(default_factory=Ledger)
    candidates: list[_Candidate] = field(default_factory=list)
    tally: StrengthTally = field(default_factory=StrengthTally)
    foreign_splits: bool = False


def prepare(
    sources: Sequence[Source],
    out: Path,
    config: PrepareConfig,
    *,
    strict: bool = False,
    chat: ChatFormat | None = None,
    tokenizer: str = "",
    reporter: Reporter | None = None,
    stopper: Stopper | None = None,
) -> dict[str, Any]:
    """Write a prepared folder (see `penchant.data.prepared`) and return its card.

    Args:
        sources: What goes in; several are mixed by their weights.
        out: The folder; it must not exist, or be empty.
        config: Seed, limit, splits and the strong-preference filter.
        strict: Write nothing when a row is broken, and list all that are.
        chat: Counts lengths in tokens; None leaves them out.
        tokenizer: What to call `chat`.
        reporter: Hears notes and progress.
        stopper: Asked at every safe point whether to stop.

    Raises:
        DataError: A source cannot be read or is no preference data, nothing is left, or, with `strict`, a row is
            broken, or `exclude` names no row.
        UsageError: `out` exists, or a name stands for two sources.
        DiskError: There is no room or no permission.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    _check_names(sources)
    pinned = [_pinned(source) for source in sources]
    tagger = load_tagger(config.strength.tagger) if config.strong else None
    for source in pinned:
        if left_over := _own_splits(source)[2]:
            reporter.note(f"{source.name}: not read, the splits {', '.join(left_over)}")
    with finished_or_absent(out) as folder:
        spool = folder / ".spool"
        with disk_errors(out), spool.open("w", encoding="utf-8", newline="\n") as lines:
            reading = _read(pinned, config, lines, tagger, reporter, stopper)
        stopper.check()
        if strict:
            _refuse_broken(reading.ledger)
        chosen = _draw(reading, pinned, config)
        if not chosen:
            raise _nothing_left(reading.ledger, pinned)
        with disk_errors(out):
            figures, fingerprint = _write_splits(spool, folder, reading.candidates, chosen)
            spool.unlink()
            if chat is not None:
                for split in (name for name in figures if figures[name]["pairs"]):
                    figures[split]["tokens"] = token_figures(_pairs_of(folder / f"{split}.jsonl"), chat)
        reading.ledger.write(folder / "ledger.parquet")
        card = {
            "sources": [_source_facts(source, reading, chosen, index) for index, source in enumerate(pinned)],
            **row_counts(reading.ledger),
            "splits": figures,
            "splits_of": "the source" if reading.foreign_splits else "prompts, by the seed",
            **({"tokenizer": tokenizer} if chat else {}),
            **({"strength": _strength_facts(reading.tally, config, tagger)} if tagger else {}),
            **config.model_dump(include={"seed", "test_fraction", "limit"}),
            "fingerprint": fingerprint,
        }
        with disk_errors(out):
            (folder / "README.md").write_text(readme(card), encoding="utf-8")
            (folder / "card.json").write_text(
                json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
    return card


# ---------------------------------------------------------------------------------------------- reading


def _check_names(sources: Sequence[Source]) -> None:
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f'"{name}" is named twice', fix="Give every source of a mix a name of its own.")
    paths = [source.path.resolve() for source in sources if source.path is not None]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError("two sources read the same place", where=str(path))


def _pinned(source: Source) -> Source:
    """The source at one commit, so that what is read and what the card says are the same."""
    if source.path is not None:
        return source
    return replace(source, revision=resolve_revision(source.format, source.revision))


def _own_splits(source: Source) -> tuple[str | None, str | None, list[str]]:
    """The names of a source's own train and test split, None where there is none, and of splits left over."""
    if source.path is None:
        names = list(source.format.splits)
    else:
        names = split_names(source.path) if source.path.is_dir() else []
    train = next((name for name in names if name.startswith("train")), names[0] if names else None)
    test = next((name for kind in ("test", "validation") for name in names if name.startswith(kind)), None)
    test = None if test == train else test
    return train, test, [name for name in names if name not in (train, test)]


def _streams(source: Source) -> Iterator[_Stream]:
    """The rows of a source, split by split where it has a test split of its own."""
    train, test, _ = _own_splits(source)
    if test is not None:
        yield _Stream("test", _rows(source, test))
        yield _Stream("train", _rows(source, train))
    else:
        yield _Stream(None, _rows(source, train))


def _rows(source: Source, split: str | None) -> Iterable[RawRow | BrokenRow]:
    if source.path is None:
        return load_hub(source.format, source.subset, split, source.revision)
    return iter_rows(source.path, split=split)


def _read(
    sources: Sequence[Source],
    config: PrepareConfig,
    spool: TextIO,
    tagger: Tagger | None,
    reporter: Reporter,
    stopper: Stopper,
) -> _Reading:
    """Judge every row; write the pairs that pass to the spool."""
    reading = _Reading()
    streams = [(index, stream) for index, source in enumerate(sources) for stream in _streams(source)]
    reading.foreign_splits = any(stream.split is not None for _, stream in streams)
    seen: dict[bytes, str] | None = {} if len(streams) > 1 else None
    listed = read_exclusions(Path(config.exclude)) if config.exclude is not None else {}
    with reporter.progress("Reading rows", 0) as advance:
        for index, stream in streams:
            source = sources[index]
            for outcome in iter_pairs(stream.rows, source.format):
                wanted = _left_in(
                    _first_time(outcome, seen), listed, config.exclude, source.name, len(sources) > 1
                )
                entry, pair = _judged(wanted, config, tagger, reading.tally)
                if len(sources) > 1:
                    entry = replace(entry, id=f"{source.name}:{entry.id}")
                reading.ledger.append(entry)
                if pair is not None:
                    pair = replace(pair, id=entry.id, origin=pair.origin or source.name)
                    spool.write(json.dumps(prepared_row(pair), ensure_ascii=False) + "\n")
                    reading.candidates.append(_candidate(index, pair, entry, stream.split, config))
                if len(reading.ledger) % _REPORT_EVERY == 0:
                    stopper.check()
                    advance(_REPORT_EVERY)
    if listed and DropReason.EXCLUDED_BY_HAND.value not in reading.ledger.reasons():
        raise DataError(
            f"none of the {len(listed)} rows that it names is among those read",
            where=config.exclude,
            fix="Leave --exclude out, or name the list that was made of this data.",
        )
    return reading


def _left_in(
    outcome: PreferencePair | LedgerEntry, listed: dict[str, Exclusion], path: str | None, source: str, mixed: bool
) -> PreferencePair | LedgerEntry:
    """The outcome, or a drop when the list of `--exclude` names the pair, in a mix also by its name there."""
    if not listed or path is None or isinstance(outcome, LedgerEntry):
        return outcome
    if mixed and (entry := excluded_entry(replace(outcome, id=f"{source}:{outcome.id}"), listed, Path(path))):
        return replace(entry, id=outcome.id)
    one = listed.get(outcome.id)
    if mixed and one is not None and one.texts != said_digest(outcome):
        return outcome  # a row of another source of the mix has the same id
    return excluded_entry(outcome, listed, Path(path)) or outcome


def _first_time(
    outcome: PreferencePair | LedgerEntry, seen: dict[bytes, str] | None
) -> PreferencePair | LedgerEntry:
    """The outcome, or a drop when another stream held the same pair; within a stream that was found already."""
    if seen is None or isinstance(outcome, LedgerEntry):
        return outcome
    place = f"{outcome.source}:{outcome.line}"
    first = seen.setdefault(pair_digest(outcome), place)
    if first == place:
        return outcome
    reason = DropReason.DUPLICATE_PAIR.value
    return LedgerEntry(outcome.source, outcome.line, outcome.id, "dropped", reason, f"same as {first}")


def _judged(
    outcome: PreferencePair | LedgerEntry, config: PrepareConfig, tagger: Tagger | None, tally: StrengthTally
) -> tuple[LedgerEntry, PreferencePair | None]:
    if isinstance(outcome, LedgerEntry):
        return outcome, None
    entry = LedgerEntry(outcome.source, outcome.line, outcome.id, "kept")
    if tagger is None:
        return entry, outcome
    verdicts = judge_all(outcome, config.strength, tagger)
    tally.add(verdicts)
    verdict = decide(verdicts)
    if verdict.keep:
        measured = (f"{one.rule}: {one.evidence.partition(';')[0]}" for one in verdicts)
        return replace(entry, evidence="; ".join(measured)), outcome
    return replace(entry, fate="dropped", reason=verdict.rule, evidence=verdict.evidence), None


def _candidate(
    source: int, pair: PreferencePair, entry: LedgerEntry, split: Split | None, config: PrepareConfig
) -> _Candidate:
    if split is None:
        split = split_of(pair.cluster, seed=config.seed, test_fraction=config.test_fraction)
    return _Candidate(source, rank(pair.id, config.seed), split, pair.cluster, pair_length(pair), entry)


def _refuse_broken(ledger: Ledger) -> None:
    broken = [f"{entry.source}:{entry.line}: {entry.evidence}" for entry in ledger if entry.reason in QUARANTINE]
    if broken:
        noun = "row is" if len(broken) == 1 else "rows are"
        raise DataError(
            "\n  ".join([f"{len(broken)} {noun} broken; nothing was written", *broken]),
            fix="Mend them, or leave --strict out: then they are quarantined in the ledger.",
        )


def _nothing_left(ledger: Ledger, sources: Sequence[Source]) -> DataError:
    reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.reasons().items())
    where = ", ".join(str(source.path or source.format.hub) for source in sources)
    return DataError(f"none of the {len(ledger)} rows can be used{': ' if reasons else ''}{reasons}", where=where)


# ------------------------------------------------------------------------------------------------- draw


def _draw(reading: _Reading, sources: Sequence[Source], config: PrepareConfig) -> set[int]:
    """Return the positions of the candidates that stay; the ledger says why the others do not."""
    kept = _without_leaks(reading)
    by_source: dict[str, list[int]] = {source.name: [] for source in sources}
    for position in kept:
        by_source[sources[reading.candidates[position].source].name].append(position)
    available = {name: len(positions) for name, positions in by_source.items()}
    if len(sources) == 1:
        name = sources[0].name
        counts = {name: min(available[name], config.limit or available[name])}
    else:
        counts = mixed_counts(available, {source.name: source.weight for source in sources}, config.limit)
    chosen: set[int] = set()
    for name, positions in by_source.items():
        ranks = [reading.candidates[position].rank for position in positions]
        chosen |= {positions[index] for index in drawn(ranks, counts[name])}
    for position in kept:
        if position not in chosen:
            _drop(reading, position, DropReason.NOT_DRAWN, f"{len(chosen)} of {len(kept)} pairs drawn")
    return chosen


def _without_leaks(reading: _Reading) -> list[int]:
    """The candidates without those to train on whose prompt is also tested on, which only foreign splits have."""
    tested = {candidate.cluster for candidate in reading.candidates if candidate.split == "test"}
    kept: list[int] = []
    for position, candidate in enumerate(reading.candidates):
        if candidate.split == "train" and candidate.cluster in tested:
            _drop(reading, position, DropReason.PROMPT_IN_TEST, "the same prompt is in the test split")
        else:
            kept.append(position)
    return kept


def _drop(reading: _Reading, position: int, reason: DropReason, evidence: str) -> None:
    entry = reading.candidates[position].entry
    reading.ledger.revise(replace(entry, fate="dropped", reason=reason.value, evidence=evidence))


# ---------------------------------------------------------------------------------------------- writing


def _write_splits(
    spool: Path, folder: Path, candidates: Sequence[_Candidate], chosen: set[int]
) -> tuple[dict[str, Any], str]:
    """Copy the chosen lines to their splits; return the figures of each split, and the digest of all lines."""
    digest = hashlib.sha256()
    figures: dict[str, Any] = {}
    for split in SPLITS:
        places = {place for place in chosen if candidates[place].split == split}
        digest.update(f"{split} {len(places)}\n".encode())
        lengths = [candidates[place].length for place in sorted(places)]
        clusters = [candidates[place].cluster for place in sorted(places)]
        figures[split] = {"pairs": len(places), "prompts": len(set(clusters))}
        if places:  # an empty file would be an error to whoever reads it
            _copy_lines(spool, places, folder / f"{split}.jsonl", digest)
            figures[split] |= figures_of_lengths(lengths, clusters)
    return figures, digest.hexdigest()


def _copy_lines(spool: Path, places: set[int], file: Path, digest: Any) -> None:
    with spool.open("rb") as lines, file.open("wb") as out:
        for position, line in enumerate(lines):
            if position in places:
                out.write(line)
                digest.update(line)


def _pairs_of(file: Path) -> Iterator[PreferencePair]:
    """The pairs of a split that was just written, one at a time."""
    for outcome in iter_pairs(iter_rows(file), FORMATS["local"]):
        if isinstance(outcome, LedgerEntry):
            raise PenchantError(
                f"a prepared row reads back as {outcome.reason}",
                where=f"{file.name}:{outcome.line}",
                fix="This is a defect of Penchant, not of the data; please report it.",
            )
        yield outcome


def _source_facts(source: Source, reading: _Reading, chosen: set[int], index: int) -> dict[str, Any]:
    pairs = sum(reading.candidates[position].source == index for position in chosen)
    return {
        "name": source.name,
        "format": source.format.name,
        "from": source.format.hub if source.path is None else source.path.name,
        "subset": source.subset,
        "revision": source.revision,
        "licence": source.format.licence,
        "weight": source.weight,
        "pairs": pairs,
        "splits_not_read": _own_splits(source)[2],
    }


def _strength_facts(tally: StrengthTally, config: PrepareConfig, tagger: Tagger) -> dict[str, Any]:
    return {
        "judged": tally.rows,
        "kept": tally.kept,
        "tagger": f"{tagger.name} {tagger.version}" if config.strength.nouns_and_verbs is not None else "",
        "rules": {rule: {"alone": tally.alone[rule], "in_order": tally.in_order[rule]} for rule in tally.alone},
        "thresholds": config.strength.model_dump(mode="json"),
    }
