"""The parts of the report one by one: what they say of figures that are known by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.html_page import Page

from penchant.reporting.figures import figure_of, interval_of
from penchant.reporting.report import render_report
from penchant.reporting.report_answers import answers_of, card_of, fitting, from_suites, lengths_of
from penchant.reporting.report_data import ledger_of
from penchant.reporting.report_generations import first_and_last
from penchant.reporting.report_pairs import fallen_pairs, length_rows, quarters_chart, recent_pairs
from penchant.reporting.report_setup import chosen_settings, commands_of, events_of, next_steps
from penchant.reporting.report_verdict import cost_of, verdict_of
from penchant.reporting.run_files import LedgerRow, RunFiles


def test_pairs_are_told_by_the_quarter_that_they_ended_in() -> None:
    """Three pairs: one as the labels ask, one displaced, one the wrong way; an earlier step does not count."""
    old = {"step": 1, "id": ["a"], "chosen_log_ratio": [-9.0], "rejected_log_ratio": [9.0]}
    line = {
        "step": 4,
        "id": ["a", "b", "c"],
        "chosen_log_ratio": [1.0, -1.0, -3.0],
        "rejected_log_ratio": [-1.0, -2.0, 1.0],
        "chosen_tokens": [9, 5, 5],
        "rejected_tokens": [5, 9, 9],
    }
    pairs = recent_pairs([old, {"step": 2}, {"step": 3}, line])
    chart = quarters_chart(pairs)
    assert chart is not None
    assert [row[1] for row in chart.rows] == ["1", "0", "1", "1"]
    assert fallen_pairs(pairs) == [("c", "4", "-3", "1"), ("b", "4", "-1", "-2")]
    rows = length_rows(pairs)
    assert [row[0].split()[-1] for row in rows] == ["one", "longer", "shorter"]
    assert [row[1].split()[0] for row in rows] == ["33.3%", "100.0%", "50.0%"]
    assert quarters_chart([]) is None
    assert length_rows(recent_pairs([{"step": 1, "id": ["a"]}])) == []


def test_words_are_marked_but_not_where_nearly_all_differ() -> None:
    rows = [
        {"id": 1, "question": "q", "reference": "the cat sat on the mat", "policy": "the dog sat on the mat"},
        {"id": 2, "question": "q", "reference": "nothing in common here", "policy": "quite another text, that"},
    ]
    near, far = (card_of(answer) for answer in answers_of(rows))
    assert [piece.text for piece in near.sides[0][2] if piece.own] == ["cat"]
    assert [piece.text for piece in near.sides[1][2] if piece.own] == ["dog"]
    assert not any(piece.own for *_, pieces in far.sides for piece in pieces)
    assert near.sides[0][1] is None


def test_long_answers_are_cut_and_many_are_thinned_evenly_and_both_are_said() -> None:
    long = card_of(answers_of([{"reference": "x" * 5000, "policy": "y"}])[0])
    assert "".join(piece.text for piece in long.sides[0][2]).endswith("(cut here: 5,000 characters in all)")
    answers = answers_of([{"id": number, "reference": "a", "policy": "b"} for number in range(100)])
    every, said = fitting(answers)
    assert (len(every), said) == (100, "")
    some, said = fitting(answers, room=20_000)
    assert [card.id for card in some] == [str(number) for number in range(0, 100, 3)]
    assert said.startswith("Shown is one in 3, evenly from all 100, so")


def test_lengths_of_answers_before_and_after() -> None:
    rows = [
        {"reference": "a b c", "policy": "a"},
        {"reference": "a", "policy": "a b"},
        {"reference": "", "policy": ""},
    ]
    assert lengths_of(answers_of(rows)) == [
        ("Mean", "1.333", "1"),
        ("Median", "1", "1"),
        ("Longest", "3", "2"),
        ("Answers that are the longer one of the two", "1", "1"),
    ]


def test_answers_of_a_suite_stand_in_for_samples() -> None:
    comparison = {"columns": [{"name": "reference"}, {"name": "after SFT"}, {"name": "after DPO"}]}
    said = {"reference": {"text": ["old"]}, "after SFT": {"text": ["between"]}, "after DPO": {"text": ["new"]}}
    row = {"id": "p", "prompt": [{"role": "user", "content": "why?"}], "answers": said}
    [answer] = from_suites(comparison, [row, {"id": "broken"}])
    assert (answer.row["question"], answer.row["reference"], answer.row["policy"]) == ("why?", "old", "new")
    assert from_suites(None, [row]) == []


def test_the_ledger_adds_up_to_all_rows_and_says_what_it_leaves_out() -> None:
    rows = [LedgerRow("kept", "", 60), *(LedgerRow("dropped", f"r{place}", 1, ("f:1",)) for place in range(40))]
    ledger = ledger_of(rows)
    assert ledger is not None
    assert (ledger.total, ledger.others, ledger.other_rows) == (100, 21, 21)
    assert sum(int(row[2]) for row in ledger.rows) + ledger.other_rows == ledger.total
    assert ledger.chart.rows == (("kept", "60", "60.0%"), ("dropped", "40", "40.0%"), ("all", "100", "100.0%"))
    assert ledger_of(None) is None
    assert ledger_of([]) is None


@pytest.mark.parametrize(
    ("low", "high", "stamp"),
    [(0.1, 0.3, "✓ It worked"), (-0.1, 0.3, "? It cannot be said"), (-0.3, -0.1, "✗ It did not work")],
)
def test_without_a_verdict_the_interval_of_the_change_is_one(low: float, high: float, stamp: str) -> None:
    middle = (low + high) / 2
    pairs = {"preference_accuracy_reference": 0.5, "preference_accuracy_policy": 0.5 + middle}
    found = verdict_of({**pairs, "preference_accuracy_gain_interval": [low, high], "test_pairs": 40})
    assert found.stamp == stamp
    assert f"{0.5 + middle:.1%} of 40 held-out pairs, 50.0% before" in found.headline
    loss = {"token_loss_reference": 2.0, "token_loss_policy": 2.0 - middle}
    assert verdict_of({**loss, "token_loss_change_interval": [-high, -low]}).stamp == stamp


def test_a_gain_with_fallen_chosen_responses_says_so() -> None:
    figures = {"preference_accuracy_reference": 0.5, "preference_accuracy_policy": 0.7}
    figures["chosen_logps_fell_fraction"] = 0.8
    found = verdict_of({**figures, "preference_accuracy_gain_interval": [0.1, 0.3]})
    assert "80% of the chosen responses became less probable" in found.reasons[-1]


def test_what_it_cost_is_added_up_where_the_run_did_not_say() -> None:
    steps = [{"step": n, "seconds": 2.0, "tokens": 600, "pairs": 8, "peak_memory_bytes": 2**30} for n in (1, 2)]
    rows = {name: (value, remark) for name, value, remark in cost_of(RunFiles("r", steps=steps))}
    assert rows["Training time"] == ("4.0 s", "4 pairs a second")
    assert rows["Tokens"][0] == "1,200"
    assert rows["Peak memory"][0] == "1.0 GiB"
    assert rows["Energy"][0] == "not measured"
    assert cost_of(RunFiles("r")) == []


CONFIG = {"objective": {"loss": "dpo", "beta": 0.3}, "train": {"seed": 4}, "run": {"data": "/a b/c", "limit": 9}}


def test_settings_commands_and_events_come_from_the_configuration() -> None:
    files = RunFiles(
        "r",
        steps=[{"step": step, "epoch": step / 4} for step in range(1, 13)],
        config=CONFIG
        | {"run": {"allowed_changes": [{"key": "k", "was": 1, "now": 2, "after_step": 6}], **CONFIG["run"]}},
        config_text="x",
        training={"findings": [{"name": "drift", "step": 9}], "kept_step": 8},
    )
    assert chosen_settings(CONFIG) == [("objective.beta", "0.3", "0.1"), ("train.seed", "4", "0")]
    assert chosen_settings({"objective": {"bata": 1}}) is None
    assert commands_of(files)[-1] == "penchant train again.yaml --data '/a b/c' --limit 9 --out runs/again"
    assert [(event.step, event.what) for event in events_of(files)] == [
        (4, "end of epoch 1"),
        (6, "resumed with another setting, k: 1 to 2"),
        (8, "end of epoch 2"),
        (8, "these weights were kept"),
        (9, "monitor: drift"),
        (12, "end of epoch 3"),
    ]


@pytest.mark.parametrize(
    ("files", "tone", "command"),
    [
        (RunFiles("r", status={"state": "running"}), "open", "penchant report RUN"),
        (RunFiles("r", status={"state": "failed", "resume": "go on"}), "open", "go on"),
        (RunFiles("r", training={"a": 1}), "open", "penchant eval RUN --data HELD_OUT"),
        (RunFiles("r", training={"a": 1}, summary={}), "bad", "penchant explain RUN"),
        (RunFiles("r", training={"a": 1}, summary={}), "good", "penchant chat RUN"),
    ],
)
def test_what_to_do_next_depends_on_where_the_run_stands(files: RunFiles, tone: str, command: str) -> None:
    assert next_steps(files, tone)[0].command == command


def test_answers_on_the_way_are_held_against_those_before_training() -> None:
    lines = [{"step": step, "answers": [f"it is {step} now and stays", "b"]} for step in (0, 5, 10)]
    first = first_and_last(lines)
    assert first is not None
    assert first[:2] == ("0", "10")
    assert [piece.text for piece in first[2][0][1] if piece.own] == ["10"]
    assert first_and_last(lines[:1]) is None


@pytest.mark.parametrize("value", [None, [1], [1, 2, 3], ["a", 2], {"low": 1}, [1, 10**400]])
def test_what_is_no_interval_is_none(value: object) -> None:
    assert interval_of({"a_interval": value}, "a") is None
    assert figure_of({"a": 1, "a_interval": value}, "a", str) == {"value": "1.0", "interval": ""}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = {
    "eval/summary.json": ("verdict", "style", "controls", "breakdown_policy", "part_seconds", "train_seconds"),
    "eval/training.json": ("findings", "worst_pairs", "plan", "kept_step", "loss_at_reference"),
    "eval/comparison.json": ("columns", "suites", "table", "figures"),
    "eval/judge.json": ("judge", "card", "win_rate"),
    "status.json": ("state", "reason", "resume", "pairs", "step", "total_steps"),
}
LINES = {
    "metrics.jsonl": ("epoch", "tokens", "peak_memory_bytes", "pairs"),
    "generations.jsonl": ("answers", "kl_per_token_interval", "repetition"),
    "pairs.jsonl": ("id", "chosen_tokens"),
    "samples/test.jsonl": ("id", "question", "reference", "policy", "reference_verdict", "policy_verdict"),
}


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.data())
def test_no_edited_file_keeps_the_page_from_being_made(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever stands under the keys that the page reads: it renders, with its frame whole."""
    run = tmp_path_factory.mktemp("run")
    for folder in ("eval", "samples"):
        (run / folder).mkdir()
    for name, keys in FILES.items():
        write(run / name, data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(keys, ANYTHING))))
    for name, keys in LINES.items():
        row = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(keys, ANYTHING)))
        write(run / name, {"step": 1, **row})
    config = data.draw(st.dictionaries(st.sampled_from(("objective", "run", "train")), ANYTHING, max_size=3))
    write(run / "config.yaml", config)
    page = render_report(run)
    assert page.count("</html>") == 1
    assert "script" not in Page(page).tags


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.slow
def test_a_run_of_many_steps_and_answers_stays_under_two_megabytes(tmp_path: Path) -> None:
    """100,000 steps, 1,000 answers of some 250 words on each side; what was left out is said."""
    coin = random.Random(3)
    keys = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "grad_norm")
    keys += ("logps/chosen", "logps/rejected", "chosen_fell_fraction", "learning_rate")
    with (tmp_path / "metrics.jsonl").open("w", encoding="utf-8") as stream:
        for step in range(1, 100_001):
            figures = {key: coin.gauss(0.5, 0.2) for key in keys}
            stream.write(json.dumps({"step": step, "pairs": 8, "tokens": 900, "seconds": 0.5, **figures}) + "\n")
    words = [coin.choice("to be or not that is the question <& 'whether' tis nobler".split()) for _ in range(4000)]

    def text() -> str:
        start = coin.randrange(3700)
        return " ".join(words[start : start + 250])

    (tmp_path / "samples").mkdir()
    rows = ({"id": n, "question": text()[:90], "reference": text(), "policy": text()} for n in range(1000))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "samples" / "test.jsonl").write_text(lines, encoding="utf-8")
    page = render_report(tmp_path)
    assert len(page.encode()) < 2_000_000
    said = Page(page).words
    assert "100,000 training steps recorded" in said
    assert "band: lowest to highest of 250 steps" in said
    assert "evenly from all 1,000, so that the page stays small; all are in samples/test.jsonl" in said
