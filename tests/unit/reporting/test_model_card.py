"""A model card says what is known, with intervals; its head stays YAML and its text plain, whatever names hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.made_runs import config_of, healthy

from penchant.data.house_style import house_style_file
from penchant.reporting.model_card import ExportFacts, code, model_card, shown_path

SUMMARY = {
    "preference_accuracy_policy": 0.7,
    "preference_accuracy_policy_interval": [0.6, 0.8],
    "preference_accuracy_reference": 0.5,
    "pass_rate_policy": float("nan"),
    "kl_to_reference": 0.02,
}
FINDING = {"name": "displacement", "step": 3, "summary": "chosen *fell* <b>|`x`", "remedies": [], "figures": {}}
HOSTILE = "a: b\n---\n# x `y` | <script>alert(1)</script>\u202e\x1b[31m {{ z }} [l](javascript:1)"


def facts(**changes: Any) -> ExportFacts:
    made = ExportFacts(
        "gguf", "q8_0", "m-q8_0.gguf", True, "a reader", "pairs", (("weights", True, "3 of 3"),), 100, 97
    )
    return replace(made, **changes)


def test_a_run_with_everything_measured() -> None:
    record = healthy(
        summary=SUMMARY,
        training={"steps": 40, "findings": [FINDING]},
        circumstances={"data": "/home/someone/data/pairs.jsonl", "data_fingerprint": "abc", "limit": 7},
    )
    card = ModelCard(model_card(record, name="run", export=facts()))
    head = card.data.to_dict()
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert head["library_name"] == "gguf"
    figures = {entry["type"]: entry for entry in head["model-index"][0]["results"][0]["metrics"]}
    assert figures["preference_accuracy_policy"]["value"] == 0.7
    assert figures["preference_accuracy_policy"]["args"] == {"interval_95": [0.6, 0.8]}
    assert "pass_rate_policy" not in figures  # not a number
    text = card.text
    assert "| 0.500 | 0.700 [0.600, 0.800] |" in text
    assert "`data/pairs.jsonl`" in text
    assert "someone" not in text
    assert "160 kept, 0 cut, 2 dropped" in text
    assert "--limit 7" in text
    assert "chosen \\*fell\\* \\<b\\>\\|\\`x\\`" in text
    assert "97 of 100 places" in text
    assert "Not measured: truth" in text
    assert "| weights | passed | 3 of 3 |" in text
    config = text.split("~~~yaml\n")[1].split("~~~")[0]
    assert yaml.safe_load(config)["train"]["learning_rate"] == 1e-5


def test_the_licence_is_that_of_the_start() -> None:
    card = ModelCard(model_card(healthy(circumstances={"data": str(house_style_file("pairs"))}), name="run"))
    assert card.data.to_dict()["license"] == "apache-2.0"
    assert "`bundled` says that it is under `apache-2.0`" in card.text
    assert "Data: the packaged house style: Apache-2.0." in card.text


def test_what_is_not_known_is_said() -> None:
    text = model_card(None, name="folder", export=facts(passed=False))
    assert "Nothing is known here of how it was trained" in text
    assert "failed its proof" in text
    fresh = model_card(healthy(summary={}, training={}, circumstances={}), name="run", steps=5)
    assert "Not evaluated when this card was written" in fresh
    assert "5 steps of 8 pairs" in fresh
    assert "model-index" not in fresh
    elsewhere = model_card(healthy(config=config_of(model={"path": "/nowhere/base"})), name="run")
    assert "license:" not in elsewhere.split("---")[1]
    assert "which one that is could not be found out" in elsewhere
    assert "The data has a licence of its own, which is not stated here." in elsewhere


@pytest.mark.parametrize("name", [HOSTILE, "", "- x", "!!python/object", "a\u2028b"])
def test_no_name_becomes_markup_or_an_entry(name: str) -> None:
    record = healthy(
        config=config_of(model={"path": HOSTILE}),
        circumstances={"data": name, "data_fingerprint": name, "versions": {name: name}},
        training={"findings": [{"name": name, "summary": name}]},
        rows={name: 3},
    )
    text = model_card(record, name=name, export=facts(compared_on="pairs", notes=(name,)))
    start, head, body = text.split("---\n", 2)
    assert start == ""
    assert set(yaml.safe_load(head)) <= {"library_name", "model_name", "pipeline_tag", "tags", "model-index"}
    assert ModelCard(text).data.to_dict()["library_name"] == "gguf"
    outside = "".join(part for place, part in enumerate(body.split("~~~")[0].split("`")) if place % 2 == 0)
    assert "\x1b" not in body
    assert "\u202e" not in body
    assert "<script>" not in outside.replace("\\<", "")


@settings(max_examples=60)
@given(st.text(max_size=300))
def test_a_code_span_is_one_span_of_one_line(text: str) -> None:
    found = code(text)
    assert found.startswith("`")
    assert found.endswith("`")
    assert found.count("`") == 2
    assert len(found.splitlines()) == 1
    assert len(found) <= 202


def test_only_the_end_of_an_absolute_path_is_shown() -> None:
    assert shown_path("/home/me/models/x") == str(Path("models", "x"))
    assert shown_path("org/name") == "org/name"
