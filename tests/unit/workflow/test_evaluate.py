"""What an evaluation is made of, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import pair_rows, plain_token_logps, save_tiny, tiny_config, tiny_llama, write_rows

from penchant.batching.pair_batch import Group
from penchant.errors import DataError, Stopped, UsageError
from penchant.evaluation.house_style import PASS
from penchant.models.load import load_model
from penchant.workflow.evaluate import Subject, evaluate, subject_of, write_evaluation
from penchant.workflow.make_pairs import Question
from penchant.workflow.setup import tokenize
from penchant.workflow.sft import training_pairs
from penchant.workflow.stopping import Stopper

QUESTIONS = [Question(f"q-{index}", f"Why do cats purr {index} times?") for index in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and held-out pairs of six questions."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_tiny(folder / "one", tiny_llama(layers=2))
    save_tiny(folder / "other", tiny_llama(layers=2, seed=1))
    rows = [{**row, "cluster": f"c-{index // 2}"} for index, row in enumerate(pair_rows(12))]
    (folder / "data").mkdir()
    write_rows(folder / "data" / "test.jsonl", rows)
    write_rows(folder / "data" / "train.jsonl", pair_rows(2))
    return folder


def subject(folder: Path, policy: str, reference: str) -> Subject:
    config = tiny_config(folder / reference, eval={"max_new_tokens": 4})
    return Subject(str(folder / policy), str(folder / reference), config, None)


def test_a_model_against_itself_shows_no_difference(folder: Path) -> None:
    figures, rows = evaluate(subject(folder, "one", "one"), data=folder / "data", questions=QUESTIONS)
    assert (figures["test_pairs"], figures["test_clusters"]) == (12, 6)
    assert figures["preference_accuracy_gain"] == 0
    assert figures["reward_ties"] == 12
    assert figures["reward_accuracy"] == 0.5
    assert figures["reward_margin"] == 0
    assert figures["kl_to_reference"] == pytest.approx(0, abs=1e-6)
    assert (figures["questions_gained"], figures["questions_lost"], figures["mcnemar_p"]) == (0, 0, 1.0)
    assert all(row["reference"] == row["policy"] for row in rows)


def test_other_weights_show_a_difference(folder: Path) -> None:
    figures, rows = evaluate(subject(folder, "other", "one"), data=folder / "data", questions=QUESTIONS)
    assert figures["kl_to_reference"] > 0.01
    assert figures["reward_ties"] == 0
    assert figures["test_questions"] == 3
    assert [row["id"] for row in rows] == ["q-0", "q-1", "q-2"]
    assert any(row["reference"] != row["policy"] for row in rows)
    names = [control["name"] for control in figures["controls"]]
    assert names == [
        f"reference cut after {count}" for count in ("one sentence", "two sentences", "three sentences")
    ]
    assert not any(control["committed"] for control in figures["controls"])
    assert sum(figures["breakdown_policy"].values()) == sum(row["policy_verdict"] != PASS for row in rows)


def test_swapped_models_swap_their_figures(folder: Path) -> None:
    there, _ = evaluate(subject(folder, "other", "one"), data=folder / "data")
    back, _ = evaluate(subject(folder, "one", "other"), data=folder / "data")
    for name in ("preference_accuracy", "preference_accuracy_sum", "perplexity"):
        assert there[f"{name}_policy"] == pytest.approx(back[f"{name}_reference"])
    assert there["reward_margin"] == pytest.approx(-back["reward_margin"])


def test_without_questions_there_is_no_style_and_without_data_no_preference(folder: Path) -> None:
    figures, rows = evaluate(subject(folder, "other", "one"), data=folder / "data", limit=4)
    assert rows == []
    assert figures["test_pairs"] == 4
    assert "pass_rate_policy" not in figures
    figures, rows = evaluate(subject(folder, "other", "one"), data=None, questions=QUESTIONS[:1])
    assert len(rows) == 1
    assert "preference_accuracy_policy" not in figures
    assert "kl_to_reference" in figures


def sft_subject(folder: Path, policy: str, **sections: Any) -> Subject:
    config = tiny_config(folder / "one", objective={"loss": "sft"}, **sections)
    return Subject(str(folder / policy), str(folder / "one"), config, None)


def chat_rows() -> list[dict[str, Any]]:
    """Two answers a row, each of which a run may train on."""
    texts = [("user", "say it"), ("assistant", "sun"), ("user", "and again"), ("assistant", "sun shines")]
    return [
        {"id": f"talk-{i}", "messages": [{"role": role, "content": f"{text} {i}"} for role, text in texts]}
        for i in range(5)
    ]


def test_after_sft_the_loss_of_examples_is_that_of_the_plain_model(folder: Path, tmp_path: Path) -> None:
    """Of chat data there is nothing else to judge by; the twin is transformers' own forward, row by row."""
    file = write_rows(tmp_path / "chat.jsonl", chat_rows())
    subject = sft_subject(folder, "other", data={"loss_turns": "all_assistant"})
    figures, _ = evaluate(subject, data=file)
    assert "preference_accuracy_policy" not in figures
    assert figures["test_examples"] == 5
    pairs, ledger = training_pairs(subject.config, file, split="test")
    model = load_model(str(folder / "other"))
    losses: list[float] = []
    for example in tokenize(pairs, ledger, model.chat, subject.config.data):
        group = Group(example.prompt_ids, (example.chosen_ids,))
        every = (-plain_token_logps(model.model, [group])).tolist()
        mask = example.chosen_scored or (True,) * len(every)
        losses += [loss for loss, scored in zip(every, mask, strict=True) if scored]
    assert figures["test_example_tokens"] == len(losses)
    assert figures["token_loss_policy"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    low, high = figures["token_loss_change_interval"]
    assert low <= figures["token_loss_change"] <= high


def test_after_sft_pairs_are_judged_as_pairs_too(folder: Path) -> None:
    figures, _ = evaluate(sft_subject(folder, "one"), data=folder / "data")
    assert (figures["test_examples"], figures["test_pairs"], figures["test_example_clusters"]) == (12, 12, 6)
    assert (figures["token_loss_change"], figures["token_loss_change_interval"]) == (0, [0, 0])
    assert figures["examples_better_fraction"] == 0
    assert figures["reward_ties"] == 12
    pairs_alone, _ = evaluate(subject(folder, "one", "one"), data=folder / "data")
    assert "token_loss_policy" not in pairs_alone


def test_after_sft_a_file_that_is_neither_is_an_error(folder: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "other.jsonl", [{"name": "nothing"}])
    with pytest.raises(DataError):
        evaluate(sft_subject(folder, "one"), data=file)


def test_a_stop_ends_an_evaluation(folder: Path) -> None:
    stopper = Stopper()
    stopper.requested = True
    with pytest.raises(Stopped):
        evaluate(subject(folder, "other", "one"), data=folder / "data", stopper=stopper)


def test_a_run_knows_its_reference_and_its_settings(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = "model: {path: start}\nobjective: {beta: 0.3}\nrun: {device: cpu}\n"
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    found = subject_of(str(tmp_path), None, ["eval.max_new_tokens=5"])
    assert (found.policy, found.reference, found.run) == (str(tmp_path / "model"), "start", tmp_path)
    assert (found.config.objective.beta, found.config.eval.max_new_tokens) == (0.3, 5)
    assert subject_of(str(tmp_path), "another").reference == "another"


def test_a_model_needs_a_reference(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--reference"):
        subject_of(str(tmp_path), None)
    found = subject_of("mine", "start", ["objective.beta=0.2"])
    assert (found.policy, found.reference, found.run) == ("mine", "start", None)
    assert found.config.objective.beta == 0.2


def test_figures_join_the_facts_of_training(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "training.json").write_text('{"train_pairs": 9, "seed": 1}', encoding="utf-8")
    rows = [{"id": "a", "policy": "café"}, {"id": "b", "policy": "x\u2028y"}]
    write_evaluation(tmp_path, {"seed": 2, "kl_to_reference": 0.5}, rows)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert summary == {"train_pairs": 9, "seed": 2, "kl_to_reference": 0.5}
    lines = (tmp_path / "samples" / "test.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == rows


def test_figures_alone_go_to_a_new_folder(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "new" / "place", {"a": 1}, [])
    assert json.loads((tmp_path / "new" / "place" / "eval" / "summary.json").read_text(encoding="utf-8")) == {
        "a": 1
    }
    assert not (tmp_path / "new" / "place" / "samples").exists()
