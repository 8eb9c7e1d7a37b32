"""What a run directory holds, read for a page: a file that is missing or damaged leaves a gap and a sentence."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from penchant.data.files import near_folder
from penchant.errors import DataError, UsageError
from penchant.reporting.figures import Row, count, number_of
from penchant.strict_yaml import parse_yaml

_PAIRS_BYTES = 1 << 24  # of pairs.jsonl the end is read: what the policy makes of its pairs now
_EXAMPLES = 3
_KNOWN = ("metrics.jsonl", "config.yaml", "status.json")
_NO_OBJECT = "is not a JSON object"


@dataclass(frozen=True)
class LedgerRow:
    """How many rows of data met a fate for a reason, and the first of them as `file:line`."""

    fate: str
    reason: str
    rows: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunFiles:
    """The files of a run directory; a part that is not there, or cannot be read, is empty.

    Attributes:
        name: The directory's name.
        steps: Lines of `metrics.jsonl` by their steps; of a step that a resume repeated the later line.
        validations: Lines of `validation.jsonl`, likewise.
        pair_lines: The last lines of `pairs.jsonl`, at most 16 MiB of them.
        generations: Lines of `generations.jsonl`, by their steps.
        samples: Lines of `samples/test.jsonl`.
        summary: `eval/summary.json`, None where nothing was evaluated.
        training: `eval/training.json`, None while the run has not ended.
        comparison: `eval/comparison.json`.
        judgement: `eval/judge.json`.
        status: `status.json`.
        config_text: `config.yaml` as it stands there.
        config: The same as values.
        ledger: Fates and reasons with their rows; None without `ledger.parquet`.
        planned: Whether there is a `plan.json`.
        checkpoints: The steps that there are checkpoints of, as text.
        suite_answers: Where there are no samples: a suite with answers, and the lines of its file.
        problems: What could not be read: file, and what is wrong with it.
    """

    name: str
    steps: Sequence[Row] = ()
    validations: Sequence[Row] = ()
    pair_lines: Sequence[Row] = ()
    generations: Sequence[Row] = ()
    samples: Sequence[Row] = ()
    summary: Row | None = None
    training: Row | None = None
    comparison: Row | None = None
    judgement: Row | None = None
    status: Row = field(default_factory=dict)
    config_text: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    ledger: Sequence[LedgerRow] | None = None
    planned: bool = False
    checkpoints: str = ""
    suite_answers: tuple[str, Sequence[Row]] | None = None
    problems: Sequence[tuple[str, str]] = ()

    @property
    def circumstances(self) -> Row:
        """The section `run` of the configuration: versions, machine, where the data was."""
        found = self.config.get("run")
        return found if isinstance(found, dict) else {}

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses that were minimised, as far as the configuration says."""
        objective = self.config.get("objective")
        loss = objective.get("loss") if isinstance(objective, dict) else None
        return (loss,) if isinstance(loss, str) else tuple(map(str, loss)) if isinstance(loss, dict) else ()


def read_run_files(run: Path) -> RunFiles:
    """Return what a run directory holds.

    Raises:
        DataError: There is no run there: neither `metrics.jsonl` nor `config.yaml` nor `status.json`.
    """
    if not any((run / name).is_file() for name in _KNOWN):
        raise DataError(
            "There is no metrics.jsonl, config.yaml or status.json, so there is no run to report on."
            + near_folder(run, "config.yaml"),
            where=str(run),
            fix="Give the directory that a training run wrote (of an aligned run one of its stages, RUN/2-dpo).",
        )
    reader = _Reader(run)
    config_text = reader.text("config.yaml")
    samples = reader.lines("samples/test.jsonl")
    return RunFiles(
        run.resolve().name,
        steps=reader.steps("metrics.jsonl"),
        validations=reader.steps("validation.jsonl"),
        pair_lines=reader.steps("pairs.jsonl", last=_PAIRS_BYTES),
        generations=reader.steps("generations.jsonl"),
        samples=samples,
        summary=reader.json("eval/summary.json"),
        training=reader.json("eval/training.json"),
        comparison=reader.json("eval/comparison.json"),
        judgement=reader.json("eval/judge.json"),
        status=reader.json("status.json") or {},
        config_text=config_text,
        config=reader.yaml("config.yaml", config_text),
        ledger=reader.ledger("ledger.parquet"),
        planned=(run / "plan.json").is_file(),
        checkpoints=_checkpoints(run / "checkpoints"),
        suite_answers=None if samples else reader.suite_answers(),
        problems=reader.problems,
    )


class _Reader:
    """Reads files of a run directory and remembers what was wrong with them."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.problems: list[tuple[str, str]] = []

    def text(self, name: str, *, last: int | None = None) -> str | None:
        """A file's text, or its last bytes from the next line on; None without it."""
        try:
            with (self.run / name).open("rb") as stream:
                start = max(0, stream.seek(0, os.SEEK_END) - last) if last else 0
                stream.seek(start)
                content = stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.problems.append((name, f"cannot be read: {error.strerror}"))
            return None
        return (content.partition(b"\n")[2] if start else content).decode("utf-8", errors="replace")

    def json(self, name: str) -> Row | None:
        text = self.text(name)
        if text is None:
            return None
        found = _parsed(text)
        if isinstance(found, dict):
            return found
        self.problems.append((name, _NO_OBJECT))
        return None

    def yaml(self, name: str, text: str | None) -> Row:
        if text is None:
            return {}
        try:
            found = parse_yaml(text, where=name)
        except UsageError as error:
            self.problems.append((name, f"cannot be read as YAML ({error.what}); it is shown as it stands"))
            return {}
        if not isinstance(found, dict):
            self.problems.append((name, "is not a configuration; it is shown as it stands"))
        return found if isinstance(found, dict) else {}

    def lines(self, name: str, *, last: int | None = None) -> list[Row]:
        """The objects of a file of lines. A torn last line is one that was being written, and no problem."""
        numbered = [
            (number, line)
            for number, line in enumerate((self.text(name, last=last) or "").split("\n"), start=1)
            if line.strip()
        ]
        rows, wrong = [], []
        for number, line in numbered:
            row = _parsed(line)
            if isinstance(row, dict):
                rows.append(row)
            elif number != numbered[-1][0]:
                wrong.append(number)
        self._say_of_lines(name, wrong, _NO_OBJECT)
        return rows

    def steps(self, name: str, *, last: int | None = None) -> list[Row]:
        steps: dict[float, Row] = {}
        wrong: list[int] = []
        for number, row in enumerate(self.lines(name, last=last), start=1):
            step = number_of(row, "step")
            if step is None:
                wrong.append(number)
            else:
                steps[step] = row
        self._say_of_lines(name, wrong, "has no step")
        return [steps[step] for step in sorted(steps)]

    def suite_answers(self) -> tuple[str, list[Row]] | None:
        """The first suite that has answers, by name, and its lines."""
        for path in sorted((self.run / "eval" / "answers").glob("*.jsonl")):
            if rows := self.lines(f"eval/answers/{path.name}"):
                return path.stem, rows
        return None

    def ledger(self, name: str) -> list[LedgerRow] | None:
        path = self.run / name
        if not path.is_file():
            return None
        columns = ["fate", "reason", "source", "line"]
        try:
            table = pq.read_table(path, columns=columns)
            rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
        except (OSError, pa.ArrowException, KeyError):
            self.problems.append((name, "is not a ledger of rows"))
            return None
        counts: Counter[tuple[str, str]] = Counter()
        examples: dict[tuple[str, str], list[str]] = {}
        for fate, reason, source, line in rows:
            key = (str(fate), str(reason or ""))
            counts[key] += 1
            shown = examples.setdefault(key, [])
            if len(shown) < _EXAMPLES:
                shown.append(f"{Path(str(source)).name}:{line}")
        found = [LedgerRow(*key, rows, tuple(examples[key])) for key, rows in counts.items()]
        return sorted(found, key=lambda row: (row.fate != "kept", row.fate, -row.rows, row.reason))

    def _say_of_lines(self, name: str, wrong: Sequence[int], what: str) -> None:
        if wrong:
            others = f", and so are {count(len(wrong) - 1)} others" if len(wrong) > 1 else ""
            self.problems.append((name, f"line {wrong[0]} {what} and is left out{others}"))


def _checkpoints(folder: Path) -> str:
    names = (path.name.removeprefix("step-") for path in folder.glob("step-*"))
    return ", ".join(map(str, sorted(int(name) for name in names if name.isdecimal())))


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
