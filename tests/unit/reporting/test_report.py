"""The report page: complete with everything, honest with little, harmless with hostile text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.html_page import Page

from penchant.errors import DataError, DiskError
from penchant.reporting.figures import byte_size, duration
from penchant.reporting.page import visible
from penchant.reporting.report import write_report
from penchant.reporting.report_answers import Answer, choose_examples

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e{{ 7 * 7 }}\ud800'\""

SUMMARY: dict[str, Any] = {
    "preference_accuracy_reference": 0.52,
    "preference_accuracy_policy": 0.81,
    "preference_accuracy_policy_interval": [0.77, 0.85],
    "pass_rate_reference": 0.11,
    "pass_rate_reference_interval": [0.06, 0.18],
    "pass_rate_policy": 0.74,
    "pass_rate_policy_interval": {"value": 0.74, "low": 0.65, "high": 0.82},
    "degenerate_rate_reference": 0.06,
    "degenerate_rate_policy": 0.02,
    "mcnemar_p": 3.2e-15,
    "kl_to_reference": 0.213,
    "train_seconds": 312.5,
    "verdict": {"worked": True, "headline": "It took on the style.", "reasons": ["Far from chance."]},
    "controls": [
        {
            "name": "SFT",
            "pass_rate": 0.58,
            "pass_rate_interval": [0.48, 0.68],
            "p_against_dpo": 0.011,
            "committed": True,
            "date": "2025-11-03",
            "machine": "two cores",
        },
        {"name": "shuffled", "pass_rate": 0.13, "committed": False},
    ],
    "breakdown_reference": {"too long": 61},
    "breakdown_policy": {"too long": 12, "a list": 3},
    "style": "Three short sentences.",
}


def write_metrics(run: Path) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    rows = (
        {"step": step, "loss": 0.7 - step / 100, "rewards/chosen": step / 10, "rewards/margins": step / 5}
        | {"seconds": 1.5, "peak_memory_bytes": 2**31, "pairs": 8, "grad_norm": 1.0, "learning_rate": 5e-6}
        for step in range(1, 13)
    )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    return run


def write_step(run: Path) -> Path:
    """A run of one step with nothing to draw, for tests that are not about curves."""
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    return run


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def write_everything(run: Path, *, hostile: str = "") -> Path:
    write_metrics(run)
    summary = json.loads(json.dumps(SUMMARY))
    summary["verdict"]["headline"] += hostile
    summary["verdict"]["reasons"].append(hostile)
    summary["controls"][0] |= {name: SUMMARY["controls"][0][name] + hostile for name in ("name", "machine")}
    summary["breakdown_policy"][f"reason{hostile}"] = 1
    summary[f"unknown{hostile}"] = {hostile: hostile}
    write_summary(run, summary)
    finding = {
        "name": f"new{hostile}",
        "summary": f"it is so{hostile}",
        "remedies": [f"do this{hostile}"],
        "step": 3,
    }
    pair = {key: f"{key}{hostile}" for key in ("id", "prompt", "chosen", "rejected")} | {"chosen_log_ratio": -2.5}
    training = {"findings": [finding], "worst_pairs": [pair]}
    (run / "eval" / "training.json").write_text(json.dumps(training), encoding="utf-8")
    status = {
        "state": "failed",
        "reason": f"why{hostile}",
        "resume": f"penchant{hostile}",
        "pairs": [f"p{hostile}"],
    }
    (run / "status.json").write_text(json.dumps(status), encoding="utf-8")
    (run / "samples").mkdir()
    verdicts = [
        ("pass", "pass"),
        ("too long", "too long"),
        (f"a list{hostile}", "pass"),
        ("pass", "too long"),
    ]
    answers = [
        {"id": f"q{number}{hostile}", "question": f"question {number}{hostile}", "reference": f"old{hostile}"}
        | {"policy": f"new{hostile}", "reference_verdict": before, "policy_verdict": after}
        for number, (before, after) in enumerate(verdicts)
    ]
    text = "".join(json.dumps(answer) + "\n" for answer in answers)
    (run / "samples" / "test.jsonl").write_text(text, encoding="utf-8")
    reason = "too short" + hostile.replace("\ud800", "")
    table = {"source": ["a"] * 4, "line": [1, 2, 3, 4], "id": list("abcd"), "evidence": [""] * 4}
    table |= {"fate": ["kept", "kept", "kept", "dropped"], "reason": [None, None, None, reason]}
    pq.write_table(pa.table(table), run / "ledger.parquet")
    config = f"training:\n  seed: 17\nversions:\n  torch: 9.8.7\nnote: {json.dumps(hostile)}\n"
    (run / "config.yaml").write_text(config, encoding="utf-8")
    return run


def read(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_a_whole_run_shows_every_part(tmp_path: Path) -> None:
    run = write_everything(tmp_path / "run")
    assert write_report(run) == run / "report.html"
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    parts = [
        "It worked",
        "It took on the style.",
        "Far from chance.",
        "11.0%",
        "65.0% to 82.0%",
        "p = 3.2e-15",
    ]
    parts += ["Three short sentences.", "1 fail to pass, 1 pass to fail", "1 pass both times, 1 still fail"]
    parts += ["shuffled", "5 min 12 s", "a list", "75.0%", "training.seed", "17", "versions.torch", "9.8.7"]
    missing = [part for part in parts if part not in " ".join(page.text.split())]
    assert not missing
    assert "is missing" not in page.text
    assert page.tags.count("svg") == 7  # before and after, loss, rewards, gradient, rate, controls, ledger


def test_a_run_with_only_metrics_says_what_is_missing(tmp_path: Path) -> None:
    html = read(write_metrics(tmp_path / "run"))
    text = " ".join(Page(html).text.split())
    assert "Not evaluated yet" in text
    assert "penchant eval RUN --data FILE" in text
    for name in ("eval/summary.json", "samples/test.jsonl", "ledger.parquet", "config.yaml"):
        assert f"<code>{name}</code> is missing" in html
    assert "It worked" not in text
    assert "After step 12, in the last tenth of the steps: loss 0.58, margin 2.4." in text
    assert "18.0 s" in text
    assert "2.0 GiB" in text


def test_an_empty_summary_invents_nothing(tmp_path: Path) -> None:
    run = write_step(tmp_path / "run")
    write_summary(run, {})
    text = Page(read(run)).text
    assert "It cannot be said" in text
    assert "states figures but no verdict" in text
    assert "holds none of the figures that this page draws" in text
    assert "Not recorded." in text


@pytest.mark.parametrize("value", ["0.5", None, True, float("nan"), 10**400, [0.5], {"value": 0.5}])
def test_a_figure_that_is_no_number_is_never_printed_as_one(tmp_path: Path, value: object) -> None:
    run = write_step(tmp_path / "run")
    keys = ("pass_rate_policy", "mcnemar_p", "train_seconds", "degenerate_rate_policy_interval")
    write_summary(
        run, dict.fromkeys(keys, value) | {"controls": value, "breakdown_policy": value, "verdict": value}
    )
    text = Page(read(run)).text
    assert "p = " not in text
    assert "50.0%" not in text


@pytest.mark.parametrize(
    ("worked", "stamp"),
    [(True, "It worked"), (False, "It did not work"), (None, "It cannot be said"), ("yes", "It cannot")],
)
def test_the_verdict_is_the_evaluations(tmp_path: Path, worked: object, stamp: str) -> None:
    run = write_step(tmp_path / "run")
    write_summary(run, {"verdict": {"worked": worked, "headline": "So it is."}})
    text = Page(read(run)).text
    assert stamp in text
    assert "So it is." in text


def test_a_plan_is_graded_figure_by_figure(tmp_path: Path) -> None:
    run = write_step(tmp_path / "run")
    assert "Nothing was planned" in read(run)
    (run / "plan.json").write_text("{}", encoding="utf-8")
    assert "which the run did not grade" in Page(read(run)).text
    grades = {
        "step_seconds": {"value": 2.0, "low": 1.0, "high": 3.0, "measured": 2.5},
        "total_seconds": {"value": 600, "low": 300, "high": 900, "measured": 901},
        "memory_bytes": {"value": 2**31, "low": 2**30, "high": 2**32, "measured": 2**29},
    }
    (run / "eval").mkdir()
    (run / "eval" / "training.json").write_text(json.dumps({"plan": grades}), encoding="utf-8")
    text = " ".join(Page(read(run)).text.split())
    assert "1 of 3 intervals held" in text
    assert "2.0 s (1.0 s to 3.0 s)2.5 s ✓ held" in text
    assert "10 min 00 s (5 min 00 s to 15 min 00 s)15 min 01 s ✗ more than predicted" in text
    assert "2.0 GiB (1.0 GiB to 4.0 GiB)512.0 MiB ✗ less than predicted" in text


def test_the_loss_has_a_line_where_training_began(tmp_path: Path) -> None:
    """At the value that the run says its loss has there, and none where it says nothing."""
    run = write_metrics(tmp_path / "run")
    assert "policy = reference" not in read(run)
    (run / "eval").mkdir()
    (run / "eval" / "training.json").write_text('{"loss_at_reference": 25.0}', encoding="utf-8")
    assert "dashed line: 25, policy = reference" in Page(read(run)).text


def test_a_misspelt_run_is_told_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.yaml").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        write_report(tmp_path / "dmeo")
    assert f'Did you mean "{tmp_path / "demo"}"?' in str(caught.value)


def test_a_folder_without_a_run_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run to report on") as caught:
        write_report(tmp_path)
    assert caught.value.fix
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", ["", '{"step": 1, "lo'])
def test_a_run_before_its_first_step_has_a_page(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content, encoding="utf-8")
    text = Page(read(tmp_path)).words
    assert "There is no complete step in metrics.jsonl." in text
    assert "There is no step yet to say anything of." in text


STATES = {
    "running": ({"phase": "training", "updated": "2026-11-22 16:00:00 UTC"}, "Its last sign of life: 2026-11-22"),
    "stopped": (
        {"reason": "SIGINT", "resume": "penchant train X --resume"},
        "To go on: penchant train X --resume",
    ),
    "failed": (
        {"reason": "no room", "pairs": ["p-1"], "traceback": "traceback.txt"},
        "The pairs of the step: p-1.",
    ),
}


@pytest.mark.parametrize("state", list(STATES))
def test_a_run_that_has_not_ended_says_where_it_stands(tmp_path: Path, state: str) -> None:
    facts, said = STATES[state]
    status = {"state": state, "step": 4, "total_steps": 40, **facts}
    (tmp_path / "status.json").write_text(json.dumps(status), encoding="utf-8")
    text = Page(read(tmp_path)).words
    assert said in text
    assert "Saved are 4 of 40 steps." in text
    assert "There is no complete step in metrics.jsonl: the file is missing." in text


def test_a_torn_last_line_is_left_out_and_a_torn_earlier_line_is_not(tmp_path: Path) -> None:
    run = write_metrics(tmp_path / "run")
    whole = read(run)
    path = run / "metrics.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"step": 13, "lo', encoding="utf-8")
    assert read(run) == whole
    path.write_text('{"step": 1, "lo\n3\n' + path.read_text(encoding="utf-8"), encoding="utf-8")
    words = Page(read(run)).words
    assert "metrics.jsonl line 1 is not a JSON object and is left out, and so are 1 others" in words
    assert "12 training steps recorded" in words


def test_a_step_that_a_resumed_run_repeats_counts_once_and_the_later_line_wins(tmp_path: Path) -> None:
    run = tmp_path
    rows = ({"step": step, "loss": 0.5} for step in (1, 2, 3))
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": 3, "loss": 0.125}) + "\n")
    text = Page(read(run)).text
    assert "3 training steps" in text
    assert "0.125" in text


DAMAGED = (
    "metrics.jsonl",
    "config.yaml",
    "status.json",
    "ledger.parquet",
    "eval/summary.json",
    "eval/training.json",
    "eval/comparison.json",
    "samples/test.jsonl",
)


def test_a_file_that_is_not_what_it_should_be_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = write_everything(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    write_summary(run, {})
    whole = Page(read(run)).words
    for name in DAMAGED:
        content = (run / name).read_bytes() if (run / name).is_file() else None
        (run / name).write_text("not: [this\nat all\nno", encoding="utf-8")
        page = Page(read(run))
        assert f"left out of the page: {name} " in page.words, name
        assert "Not everything could be read" in page.words
        if content is None:
            (run / name).unlink()
        else:
            (run / name).write_bytes(content)
    assert Page(read(run)).words == whole


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    html = read(write_everything(tmp_path / "run", hostile=HOSTILE))
    page = Page(html)
    assert not {"script", "img", "iframe", "object", "form", "link", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    harmless = read(write_everything(tmp_path / "harmless" / "run"))
    unmarked, expected = ([tag for tag in each.tags if tag != "mark"] for each in (page, Page(harmless)))
    assert unmarked == expected


def test_controls_that_came_with_the_package_say_so(tmp_path: Path) -> None:
    html = read(write_everything(tmp_path / "run"))
    rows = {row.split("</th>")[0]: row for row in re.split(r'<tr><th scope="row" class="any">', html)}
    origin = "came with the package, not measured in this run: 2025-11-03, two cores"
    assert origin in rows["SFT"]
    assert "came with the package" not in rows["shuffled"]
    assert "measured in this run" in rows["shuffled"]
    assert html.count("SFT (not this run)") >= 2


def test_a_control_that_does_not_say_where_it_is_from_is_not_taken_for_this_runs(tmp_path: Path) -> None:
    run = write_step(tmp_path / "run")
    write_summary(run, {"controls": [{"name": "SFT", "pass_rate": 0.5}, "no control"]})
    assert "not measured in this run: on a date not given, a machine not given" in Page(read(run)).text


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(write_everything(tmp_path / "a" / "run")).read_bytes()
    second = write_report(write_everything(tmp_path / "b" / "run")).read_bytes()
    assert first == second


def test_the_page_loads_nothing_and_its_policy_fits_its_style(tmp_path: Path) -> None:
    html = read(write_everything(tmp_path / "run"))
    assert "http://" not in html
    assert "https://" not in html
    assert not [value for name, value in Page(html).attributes if name in ("src", "srcset", "action", "data")]
    links = [value for name, value in Page(html).attributes if name in ("href", "xlink:href")]
    assert all(value and value.startswith("#") for value in links)
    styles = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    assert len(styles) == 1
    digest = base64.b64encode(hashlib.sha256(styles[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in html
    assert "url(" not in styles[0]


def test_every_chart_has_an_accessible_name_and_a_table(tmp_path: Path) -> None:
    html = read(write_everything(tmp_path / "run"))
    figures = re.findall(r"<figure.*?</figure>", html, flags=re.DOTALL)
    assert len(figures) == html.count("<svg")
    for figure in figures:
        names = re.search(r'<svg [^>]*role="img" aria-labelledby="(\S+) (\S+)"', figure)
        assert names
        assert f'<title id="{names[1]}">' in figure
        assert f'<desc id="{names[2]}">' in figure
        assert "<table>" in figure or "ledger" in figure
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_page_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    run = write_step(tmp_path / "run")
    (run / "report.html").mkdir()
    with pytest.raises(DiskError) as caught:
        write_report(run)
    assert caught.value.fix
    assert sorted(path.name for path in run.iterdir()) == ["metrics.jsonl", "report.html"]


def test_configuration_that_is_no_yaml_is_still_shown(tmp_path: Path) -> None:
    run = write_step(tmp_path / "run")
    (run / "config.yaml").write_text("a: [1\nb: 'x", encoding="utf-8")
    text = Page(read(run)).text
    assert "a: [1\nb: 'x" in text
    assert "names no seed and no versions" in text
    assert "cannot be read as YAML" in text


def test_examples_show_gain_and_loss_and_are_filled_up_in_order() -> None:
    changes = ["Still fails", "Passes both times", "Still fails", "Fail to pass", "Fail to pass"]
    answers = [Answer({"id": number}, change) for number, change in enumerate(changes)]
    assert [answer.row["id"] for answer in choose_examples(answers)] == [3, 0, 1]
    lost = Answer({"id": 9}, "Pass to fail")
    assert [answer.row["id"] for answer in choose_examples([*answers, lost])] == [3, 0, 9]
    assert choose_examples([]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nkept", "plain\ttext\nkept"),
        ("a\r\nb", "a\nb"),
        ("\x00\x1b\x7f\x85\u202e", "⟨U+0000⟩⟨U+001B⟩⟨U+007F⟩⟨U+0085⟩⟨U+202E⟩"),
        ("\ud800", "\ufffd"),
        ("👩‍👧 باريس", "👩‍👧 باريس"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (312.4, "5 min 12 s"), (7260, "2 h 01 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2.5 * 2**30, "2.5 GiB"), (2**60, "1048576.0 TiB")],
)
def test_byte_sizes(size: float, text: str) -> None:
    assert byte_size(size) == text


def test_validations_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    """From `validation.jsonl`; of a step that a resume repeated the later line counts."""
    run = write_metrics(tmp_path / "run")
    assert "held-out pairs" not in read(run)
    lines = [{"step": 4, "loss": 0.61}, {"step": 8, "loss": 0.5}, {"step": 8, "loss": 0.595}]
    (run / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert "loss, held-out from 0.61 to 0.595" in read(run)
