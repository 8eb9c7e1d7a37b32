"""The command line in this process: exit codes, what goes to which stream, and what errors say."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny import pair_rows, save_tiny, tiny_llama, write_rows
from typer.testing import CliRunner, Result

from penchant.cli import report_verb
from penchant.cli.main import app
from penchant.data import house_style
from penchant.errors import DataError, PenchantError
from penchant.evaluation.house_style import SYSTEM_PROMPT
from penchant.workflow import demo, make_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, pairs, and a recipe that names the model."""
    folder = tmp_path_factory.mktemp("commands")
    save_tiny(folder / "start", tiny_llama(layers=2))
    write_rows(folder / "pairs.jsonl", pair_rows(8))
    recipe = {
        "model": {"path": str(folder / "start")},
        "data": {"max_tokens": 96},
        "train": {"learning_rate": 1e-3, "batch_pairs": 4, "max_steps": 2},
        "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


def penchant(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result, code: int) -> str:
    """The message of an explained error: on standard error alone, without a traceback."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "a defect of Penchant" not in result.stderr
    assert result.stderr.startswith("penchant: ")
    return result.stderr


@pytest.fixture
def train(folder: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(*words: object, data: Path | None = None) -> Result:
        recipe = folder / "tiny.yaml"
        pairs = data or folder / "pairs.jsonl"
        return penchant("train", recipe, "--data", pairs, "--out", tmp_path / "run", *words)

    return run


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.learnin_rate=1", 'train.learnin_rate is not a setting. Did you mean "learning_rate"?'),
        ("trian.seed=1", 'trian is not a setting. Did you mean "train"?'),
        ("objective.beta=-1", "objective.beta = -1"),
        ("train.seed", "write section.key=value"),
    ],
)
def test_a_setting_that_is_not_one(
    train: Callable[..., Result], tmp_path: Path, setting: str, message: str
) -> None:
    assert message in refused(train("--set", setting), 2)
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_is_not_one(folder: Path, tmp_path: Path) -> None:
    result = penchant("train", "dmo", "--data", folder / "pairs.jsonl", "--out", tmp_path / "run")
    assert 'there is no recipe "dmo". Did you mean "demo"?' in refused(result, 2)
    result = penchant("train", folder / "tini.yaml", "--data", folder / "pairs.jsonl", "--out", tmp_path / "run")
    assert 'Did you mean "tiny.yaml"?' in refused(result, 2)


def test_a_missing_file(train: Callable[..., Result], folder: Path) -> None:
    message = refused(train(data=folder / "pair.jsonl"), 3)
    assert f"{folder / 'pair.jsonl'}: no such file" in message
    assert 'Did you mean "pairs.jsonl"?' in message


def test_a_broken_line(train: Callable[..., Result], tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in pair_rows(3)]
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join([*rows[:2], rows[2][:-9]]), encoding="utf-8")
    assert f"{broken}:3: not JSON" in refused(train(data=broken), 3)


def test_a_missing_column(train: Callable[..., Result], tmp_path: Path) -> None:
    rows = [{"prompt": "a", "choosen": "b", "rejected": "c"}]
    message = refused(train(data=write_rows(tmp_path / "short.jsonl", rows)), 3)
    assert 'no column "chosen"; columns found: prompt, choosen, rejected. Did you mean "choosen"?' in message
    assert "short.jsonl:1" in message


@pytest.mark.parametrize("verb", ["train", "generate", "score"])
def test_a_model_without_weights(folder: Path, tmp_path: Path, train: Callable[..., Result], verb: str) -> None:
    bare = save_tiny(tmp_path / "bare", tiny_llama(layers=1))
    (bare / "model.safetensors").unlink()
    if verb == "train":
        result = train("--set", f"model.path={bare}")
    elif verb == "generate":
        result = penchant("generate", bare, "Why?")
    else:
        result = penchant(
            "score", "--model", bare, "--data", folder / "pairs.jsonl", "--out", tmp_path / "scores.jsonl"
        )
    message = refused(result, 4)
    assert f"{bare}: this model directory has no weights" in message
    assert "model.safetensors" in message


def test_a_run_that_is_there_already(train: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("mine\n", encoding="utf-8")
    message = refused(train(), 2)
    assert "there is a run here already" in message
    assert "--resume" in message
    assert (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["eval", "nowhere"], "nothing to judge by"),
        (["eval", "nowhere", "--data", "pairs.jsonl"], "--reference"),
        (
            ["eval", "nowhere", "--data", "pairs.jsonl", "--judge", "longer"],
            "--judge is not used without --prompts",
        ),
    ],
)
def test_an_evaluation_of_nothing(words: list[str], word: str) -> None:
    assert word in refused(penchant(*words), 2)


def test_a_report_of_nothing(tmp_path: Path) -> None:
    refused(penchant("report", tmp_path), 3)


@pytest.mark.parametrize(
    "words", [["train"], ["train", "demo", "--data", "x", "--out", "y", "--limit", "0"], ["nonsense"]]
)
def test_wrong_options_are_usage(words: list[str]) -> None:
    result = penchant(*words)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_debug_shows_the_error_itself(train: Callable[..., Result], folder: Path) -> None:
    result = train("--debug", data=folder / "pair.jsonl")
    assert isinstance(result.exception, DataError)


def test_what_penchant_cannot_explain_is_its_defect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(runs: list[Path], out: Path | None, **_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(report_verb, "_report", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = penchant("report", tmp_path)
    assert result.exit_code == 1
    assert "a defect of Penchant: KeyError: 'surprise' (test_commands.py:" in result.stderr
    [kept] = tmp_path.glob("penchant-traceback-*.txt")
    assert f"Its traceback is in {kept}." in result.stderr
    assert "in broken" in kept.read_text(encoding="utf-8")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert "With --debug it shows its traceback." in penchant("report", tmp_path).stderr
    assert "Traceback" not in result.stderr
    assert isinstance(penchant("report", tmp_path, "--debug").exception, KeyError)


def test_exit_codes_of_all_errors_are_told_apart() -> None:
    codes = [PenchantError.exit_code, *(kind.exit_code for kind in PenchantError.__subclasses__())]
    assert sorted(codes) == [1, 2, 3, 4, 10, 13, 75]


def test_scores_and_a_folder_of_figures(folder: Path, tmp_path: Path) -> None:
    """What is said at the end names the files that are there."""
    scores = tmp_path / "scores.jsonl"
    result = penchant(
        "score", "--model", folder / "start", "--data", folder / "pairs.jsonl", "--out", scores, "--limit", 3
    )
    assert result.exit_code == 0, result.stderr
    assert "Scored 3 pairs." in result.stdout
    assert str(scores) in result.stdout
    assert len(scores.read_text(encoding="utf-8").splitlines()) == 3
    words = ["eval", folder / "start", "--reference", folder / "start", "--data", folder / "pairs.jsonl"]
    words += ["--set", "engine.device=cpu", "--set", "engine.precision=fp32", "--set", "engine.threads=1", "-q"]
    result = penchant(*words, "--out", tmp_path / "figures")
    assert result.exit_code == 0, result.stderr
    assert "preference accuracy, mean log-prob (8 rows, higher is better)" in result.stdout
    assert str(tmp_path / "figures" / "eval" / "comparison.json") in result.stdout
    for name in ("comparison", "summary"):
        assert (tmp_path / "figures" / "eval" / f"{name}.json").is_file()
    result = penchant(*words, "--json")
    assert json.loads(result.stdout)["reward_ties"] == 8


def test_pairs_of_ones_own_questions(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = write_rows(tmp_path / "mine.jsonl", [{"id": "a", "question": "Why do cats purr?"}])
    real, asked = make_pairs.make_pairs, []

    def quick(model: str, path: Path, out: Path, **options: Any) -> tuple[int, int]:
        asked.append((path, options["samples"], options["seed"]))
        return real(model, path, out, max_new_tokens=2, **options)

    monkeypatch.setattr(make_pairs, "make_pairs", quick)
    words = [
        "make-pairs",
        "--out",
        tmp_path / "out",
        "--model",
        folder / "start",
        "--samples",
        2,
        "--seed",
        5,
        "-q",
    ]
    result = penchant(*words, "--questions", questions)
    assert result.exit_code == 0, result.stderr
    assert "0 pairs of 0 questions." in result.stdout
    assert (tmp_path / "out" / "samples.jsonl").is_file()
    monkeypatch.setattr(
        house_style, "house_style_file", lambda name: questions if name == "test_questions" else None
    )
    assert penchant(*words, "--questions", "test").exit_code == 0
    assert asked == [(questions, 2, 5), (questions, 2, 5)]


def test_the_likelihood_of_a_chat_data_set_and_what_comes_next(folder: Path, tmp_path: Path) -> None:
    """The last lines name what was made; the command that they propose starts from it."""
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pair_rows(8)]
    words = ["sft", folder / "tiny.yaml", "--data", write_rows(tmp_path / "chats.jsonl", rows), "-q"]
    result = penchant(*words[:-1], "--out", tmp_path / "run", "--set", "objective.loss=sft")
    assert result.exit_code == 0, result.stderr
    assert "Trained on 8 examples in" in result.stdout
    assert str(tmp_path / "run" / "report.html") in result.stdout
    assert (tmp_path / "run" / "report.html").is_file()
    [line] = [line for line in result.stdout.splitlines() if "penchant train" in line]
    assert shlex.split(line)[-2:] == ["--set", f"model.path={tmp_path / 'run' / 'model'}"]
    result = penchant(*words, "--out", tmp_path / "other", "--set", "objective.loss=sft", "--json")
    assert json.loads(result.stdout)["steps"] == 2
    message = refused(penchant(*words, "--out", tmp_path / "pairs"), 2)
    assert 'minimises the loss "sft", and this recipe has "dpo"' in message
    assert not (tmp_path / "pairs").exists()


def test_stages_in_one_command(folder: Path, tmp_path: Path) -> None:
    """Their summaries, their reports, and the evaluation of the last; the second time they are there already."""
    text = (folder / "tiny.yaml").read_text(encoding="utf-8")
    recipe = tmp_path / "two.yaml"
    recipe.write_text(f"{text}stages: {{sft: {{objective: {{loss: sft}}}}, dpo: {{}}}}\n", encoding="utf-8")
    words = ["align", recipe, "--data", folder / "pairs.jsonl", "--out", tmp_path / "out", "-q"]
    result = penchant(*words[:-1])
    assert result.exit_code == 0, result.stderr
    for name in ("1-sft", "2-dpo"):
        assert str(tmp_path / "out" / name / "report.html") in result.stdout
    assert f"penchant eval {tmp_path / 'out' / '2-dpo'}" in result.stdout
    assert "dpo: Trained on 8 rows" in result.stdout
    assert "there is a run here already" in refused(penchant(*words), 2)
    again = penchant(*words, "--resume")
    assert "sft: finished before" in again.stdout
    assert [stage["stage"] for stage in json.loads(penchant(*words, "--resume", "--json").stdout)] == [
        "sft",
        "dpo",
    ]
    message = refused(penchant("train", recipe, "--data", folder / "pairs.jsonl", "--out", tmp_path / "x"), 2)
    assert "penchant align" in message


FIGURES = {
    "verdict": {"headline": "It worked: answers.", "reasons": ["a reason\x1b[2J"]},
    "test_pairs": 9,
    "train_pairs": 8,
    "train_seconds": 7.0,
    "total_seconds": 9.0,
    "peak_memory_bytes": 2_500_000_000,
    **{
        name: value
        for figure in (
            "preference_accuracy_reference",
            "preference_accuracy_policy",
            "preference_accuracy_sum_reference",
            "preference_accuracy_sum_policy",
            "reward_accuracy",
            "chosen_logps_fell_fraction",
        )
        for name, value in ((figure, 0.5), (f"{figure}_interval", [0.25, 0.75]))
    },
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A demo that does nothing but note what it was asked."""
    calls: list[dict[str, Any]] = []

    def run(out: Path, *, reporter: object, stopper: object, **options: Any) -> dict[str, Any]:
        calls.append({"out": out, **options})
        return FIGURES

    monkeypatch.setattr(demo, "run_demo", run)
    return calls


def test_the_demo_says_whether_it_worked_and_what_comes_next(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    result = penchant("demo", "--out", tmp_path, "--fast", "--seed", 4)
    assert result.exit_code == 0, result.stderr
    assert asked == [{"out": tmp_path, "fast": True, "controls": False, "seed": 4, "resume": False}]
    assert "It worked: answers." in result.stdout
    assert "50.0% [25.0%, 75.0%] -> 50.0% [25.0%, 75.0%]" in result.stdout
    assert "\x1b" not in result.stdout
    [line] = [line for line in result.stdout.splitlines() if "penchant generate" in line]
    # the command that it proposes asks in the words that it was trained on, and can be pasted
    assert shlex.split(line)[1:] == [
        "penchant",
        "generate",
        str(tmp_path),
        "--system",
        SYSTEM_PROMPT,
        "Why do cats purr?",
    ]


def test_the_demo_in_json_is_json_alone(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    result = penchant("demo", "--out", tmp_path, "--json", "--controls")
    assert json.loads(result.stdout) == FIGURES
    assert asked[0]["controls"] is True
