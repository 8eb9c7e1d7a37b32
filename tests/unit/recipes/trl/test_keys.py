"""The table of TRL's keys is TRL's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from penchant.recipes.trl.keys import DATA_KEYS, KEYS, LAUNCHER_KEYS, MODEL_KEYS, OLD_KEYS, RENAMED, TRAINING_KEYS


def defaults(kind: Any) -> dict[str, Any]:
    found = {}
    for field in dataclasses.fields(kind):
        if field.init:
            made = field.default_factory is not dataclasses.MISSING
            found[field.name] = field.default_factory() if made else field.default  # type: ignore[misc]
    return found


def test_the_table_holds_what_an_installed_trl_holds() -> None:
    trl = pytest.importorskip("trl")
    if not trl.__version__.startswith("1.16."):
        pytest.skip(f"the table is of trl 1.16, and {trl.__version__} is installed")
    data = {**defaults(trl.ScriptArguments), **defaults(trl.DatasetMixtureConfig)}
    for kind, table in ((defaults(trl.DPOConfig), TRAINING_KEYS), (defaults(trl.ModelConfig), MODEL_KEYS)):
        assert {name: key.default for name, key in table.items()} == kind
    assert {name: key.default for name, key in DATA_KEYS.items()} == data


def test_a_key_stands_in_one_table_and_older_names_lead_to_one_of_today() -> None:
    tables = (TRAINING_KEYS, MODEL_KEYS, DATA_KEYS, LAUNCHER_KEYS, OLD_KEYS)
    assert sum(len(table) for table in tables) == len(set().union(*tables))
    assert set(RENAMED.values()) <= set(KEYS)
    assert not set(RENAMED) & set(KEYS)


def test_what_is_not_converted_has_a_reason() -> None:
    unexplained = [name for name, key in {**KEYS, **OLD_KEYS}.items() if key.fate != "converted" and not key.why]
    assert unexplained == []
