"""Reading a run directory whole, for what looks back at runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penchant.config import build_config
from penchant.data.files import near_folder
from penchant.data.ledger import Ledger
from penchant.errors import DataError, PenchantError, UsageError
from penchant.evaluation.pair_scores import read_pair_scores
from penchant.evaluation.run_record import RunRecord
from penchant.strict_yaml import read_yaml
from penchant.types import PreferencePair
from penchant.workflow.run_directory import FACTS
from penchant.workflow.setup import read_pairs
from penchant.workflow.sft import training_pairs
from penchant.workflow.watch import GENERATIONS_FILE, PAIRS_FILE, read_lines


def read_run(run: Path) -> RunRecord:
    """Return what a run directory holds. Training pairs are not read, see `training_texts`.

    Raises:
        UsageError: There is no run there.
        DataError: A file of it cannot be read.
    """
    file = run / "config.yaml"
    if not file.is_file():
        raise UsageError(
            f"this is no run directory: there is no config.yaml in it.{near_folder(run, 'config.yaml')}",
            where=str(run),
            fix="Name the folder that penchant train wrote (of an aligned run one of its stages, RUN/2-dpo).",
        )
    values = read_yaml(file)
    circumstances = values.pop("run", None) or {}
    return RunRecord(
        run,
        build_config(values, where=str(file)),
        circumstances,
        training=_facts(run / FACTS),
        summary=_facts(run / "eval" / "summary.json"),
        steps=_lines(run / "metrics.jsonl"),
        validations=_lines(run / "validation.jsonl"),
        pair_lines=_lines(run / PAIRS_FILE),
        generations=_lines(run / GENERATIONS_FILE),
        samples=_lines(run / "samples" / "test.jsonl"),
        held_out=read_pair_scores(run),
        rows=_fates(run / "ledger.parquet"),
    )


def training_texts(record: RunRecord) -> tuple[dict[str, PreferencePair], str]:
    """Return a run's training pairs by id, and "" or why there are none.

    They are read from where `config.yaml` says that the data was, and must be the rows that were trained on, as
    far as ids tell. With random labels the texts of the two sides do not stand as they were trained on.
    """
    place = record.circumstances.get("data")
    if not isinstance(place, str):
        return {}, "the run does not say where its data was"
    if record.config.data.random_labels:
        return {}, "its labels were drawn at random (data.random_labels), so the rows' own say nothing"
    try:
        pairs, _ = training_pairs(record.config, Path(place), limit=record.circumstances.get("limit"))
    except PenchantError as error:
        return {}, f"the data cannot be read any more ({error.what})"
    by_id = {pair.id: pair for pair in pairs}
    seen = {name for line in record.pair_lines for name in line["id"]}
    if record.config.objective.loss != "kto" and seen - by_id.keys():
        return {}, f"{place} holds other rows now: {len(seen - by_id.keys())} that were trained on are not there"
    return by_id, ""


def held_out_texts(record: RunRecord) -> dict[str, PreferencePair]:
    """Return the pairs of the test split beside a run's training pairs, by id; {} where there is none to read."""
    place = record.circumstances.get("data")
    if not isinstance(place, str) or not Path(place).is_dir():
        return {}
    try:
        pairs, _ = read_pairs(Path(place), split="test")
    except PenchantError:
        return {}
    return {pair.id: pair for pair in pairs}


def _facts(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({type(error).__name__})", where=str(path)) from error
    if not isinstance(found, dict):
        raise DataError("holds something else than figures", where=str(path))
    return found


def _lines(path: Path) -> list[Mapping[str, Any]]:
    try:
        return read_lines(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({type(error).__name__})", where=str(path)) from error


def _fates(path: Path) -> dict[str, int]:
    return {str(fate): count for fate, count in Ledger.read(path).counts().items()} if path.is_file() else {}
