"""What the likelihood stage trains on, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import Notes, loaded, pair_rows, save_tiny, step_metrics, tiny_config, tiny_llama, write_rows

from penchant.batching.packing import step_indices
from penchant.config import DataConfig
from penchant.data.ledger import Ledger
from penchant.errors import DataError, ModelError, UsageError
from penchant.models.load import load_model
from penchant.tokens.chat import tokenize_pair
from penchant.types import PreferencePair, Turn
from penchant.workflow.plan import plan_run
from penchant.workflow.setup import require_chat_format
from penchant.workflow.sft import every_turn_scored, read_examples, require_sft, training_pairs
from penchant.workflow.train import train_run

CHAT = loaded(tiny_llama(layers=1)).chat
TALK = (
    Turn("system", "brief"),
    Turn("user", "one?"),
    Turn("assistant", "ONE"),
    Turn("user", "two?"),
    Turn("assistant", "TWO"),
    Turn("user", "three?"),
)


def data_config(**values: Any) -> DataConfig:
    return DataConfig.model_validate({"max_tokens": 400, **values})


def row_of(*turns: Turn) -> dict[str, Any]:
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}


def spoken(pair: PreferencePair, config: DataConfig) -> tuple[str, str]:
    """The text of an example's prompt ids, and that of its scored ids."""
    tokenized, entry = tokenize_pair(pair, CHAT, config)
    assert tokenized is not None, entry
    assert (tokenized.rejected_ids, tokenized.rejected_scored, tokenized.rejected_complete) == ((), None, True)
    mask = tokenized.chosen_scored or (True,) * len(tokenized.chosen_ids)
    scored = [token for token, counts in zip(tokenized.chosen_ids, mask, strict=True) if counts]
    return CHAT.decode(tokenized.prompt_ids), CHAT.tokenizer.decode(scored)


def test_the_last_answer_or_every_answer_is_scored(tmp_path: Path) -> None:
    """Each with its end token, and never a user's word; the prompt ends where the first of them begins."""
    file = write_rows(tmp_path / "chats.jsonl", [row_of(*TALK, Turn("assistant", "THREE"))])
    for turns, prompt_end, scored in (
        ("last", "three?\nassistant\n", "THREE<|im_end|>"),
        ("all_assistant", "one?\nassistant\n", "ONE<|im_end|>TWO<|im_end|>THREE<|im_end|>"),
    ):
        config = data_config(loss_turns=turns)
        (pair,), _ = read_examples(file, config, split=None)
        prompt, words = spoken(pair, config)
        assert prompt.endswith(prompt_end)
        assert words == scored


def test_an_opening_of_the_assistant_answers_nothing_and_stays_in_the_prompt() -> None:
    hello = Turn("assistant", "Hello!")
    pair = every_turn_scored(PreferencePair("a", (hello, *TALK[1:]), "THREE", ""))
    assert pair.prompt == (hello, TALK[1])
    assert (pair.chosen_lead, pair.chosen) == (TALK[2:], "THREE")
    single = PreferencePair("a", TALK[:2], "ONE", "")
    assert every_turn_scored(single) == single


def test_an_answer_that_says_nothing_is_not_imitated(tmp_path: Path) -> None:
    """It is dropped where it would be scored, and only there."""
    silent = (*TALK[:2], Turn("assistant", " "), *TALK[3:], Turn("assistant", "THREE"))
    file = write_rows(tmp_path / "chats.jsonl", [row_of(*silent), row_of(*TALK[:2], Turn("assistant", "ONE"))])
    assert len(read_examples(file, data_config(), split=None)[0]) == 2
    pairs, ledger = read_examples(file, data_config(loss_turns="all_assistant"), split=None)
    assert [pair.chosen for pair in pairs] == ["ONE"]
    assert [(entry.fate, entry.reason, entry.evidence) for entry in ledger] == [
        ("dropped", "empty_turn", "turn 3 is empty"),
        ("kept", "", ""),
    ]


def test_an_example_is_cut_by_what_it_needs_itself() -> None:
    """Beside a long rejected response the prompt is cut; of the chosen response alone it is not."""
    pair = PreferencePair("a", TALK[1:2], "ONE", "x" * 300)
    prompt = len(CHAT.prompt_ids(pair.prompt))
    config = data_config(max_tokens=prompt + 4)
    assert tokenize_pair(pair, CHAT, config)[1].reason != ""
    example = PreferencePair("a", TALK[1:2], "ONE", "")
    tokenized, entry = tokenize_pair(example, CHAT, config)
    assert entry.fate == "kept"
    assert tokenized is not None
    assert CHAT.decode(tokenized.chosen_ids) == "ONE"
    cut, entry = tokenize_pair(example, CHAT, data_config(max_tokens=prompt + 2, truncation="keep_start"))
    assert (entry.fate, entry.reason) == ("cut", "response_cut")
    assert cut is not None
    assert (CHAT.decode(cut.chosen_ids), cut.chosen_complete) == ("ON", False)


def test_the_loss_decides_what_is_read(tmp_path: Path) -> None:
    """Pairs for a preference; for the likelihood their chosen side, or a chat data set."""
    pairs = write_rows(tmp_path / "pairs.jsonl", pair_rows(3))
    chats = write_rows(tmp_path / "chats.jsonl", [row_of(*TALK, Turn("assistant", "THREE"))])
    dpo, sft = tiny_config("none"), tiny_config("none", objective={"loss": "sft"})
    assert [pair.rejected for pair in training_pairs(dpo, pairs)[0]] == [row["rejected"] for row in pair_rows(3)]
    assert [(pair.chosen, pair.rejected) for pair in training_pairs(sft, pairs)[0]] == [
        (row["chosen"], "") for row in pair_rows(3)
    ]
    assert len(training_pairs(sft, pairs, limit=2)[0]) == 2
    assert training_pairs(sft, chats)[0][0].chosen == "THREE"
    with pytest.raises(DataError, match="not preference pairs"):
        training_pairs(dpo, chats)


def test_a_folder_gives_its_train_split(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", pair_rows(3))
    write_rows(tmp_path / "test.jsonl", pair_rows(5))
    assert len(training_pairs(tiny_config("none", objective={"loss": "sft"}), tmp_path)[0]) == 3


def test_only_a_recipe_of_the_likelihood_is_taken() -> None:
    require_sft(tiny_config("none", objective={"loss": "sft"}), "mine")
    with pytest.raises(UsageError, match=r'"sft", and this recipe has "dpo"(.|\n)*penchant train mine'):
        require_sft(tiny_config("none"), "mine")


def test_a_run_on_chats_leaves_a_whole_run_directory(tmp_path: Path) -> None:
    """Every row has a fate, the loss is nats per token, nothing speaks of rewards, and the model opens."""
    rows = [row_of(Turn("user", row["prompt"]), Turn("assistant", row["chosen"])) for row in pair_rows(8)]
    data = write_rows(tmp_path / "chats.jsonl", [*rows, row_of(*TALK), rows[0]])
    config = tiny_config(save_tiny(tmp_path / "start"), objective={"loss": "sft"}, train={"max_steps": 3})
    run = train_run(config, data, tmp_path / "run").run
    ledger = Ledger.read(run / "ledger.parquet")
    assert [entry.reason for entry in ledger] == [""] * 8 + ["response_not_one_turn", "duplicate_pair"]
    lines = step_metrics(run)
    known = {"step", "epoch", "loss", "logps/chosen", "grad_norm", "learning_rate", "pairs", "tokens"}
    assert [set(line) for line in lines] == [known] * 3
    assert not (run / "reference").exists()
    assert json.loads((run / "eval" / "training.json").read_text(encoding="utf-8"))["train_pairs"] == 8
    assert load_model(str(run / "model")).chat.has_template
    for line in lines:  # a token a byte, and the end token
        first = step_indices(int(line["step"]) - 1, count=8, batch=4, seed=0)
        tokens = sum(len(pair_rows(8)[index]["chosen"]) + 1 for index in first)
        assert line["loss"] * tokens == pytest.approx(-4 * line["logps/chosen"], rel=1e-6)


@pytest.mark.parametrize("loss", ["dpo", "sft"])
def test_a_base_model_without_a_chat_template_is_refused_before_work(tmp_path: Path, loss: str) -> None:
    """With the three remedies; nothing is scored or trained, and the plan says the same."""
    base = save_tiny(tmp_path / "base", tiny_llama(layers=1), template=False)
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    config = tiny_config(base, objective={"loss": loss})
    for work in (lambda: train_run(config, data, tmp_path / "run"), lambda: plan_run(config, data=data)):
        with pytest.raises(ModelError) as caught:
            work()
        assert "no chat template" in caught.value.what
        assert caught.value.where == str(base)
        for remedy in ("instruct model", "data.format=transcript", "penchant sft", "data.format=plain"):
            assert remedy in str(caught.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("form", ["transcript", "plain"])
def test_a_base_model_is_trained_in_the_form_that_it_is_told(tmp_path: Path, form: str) -> None:
    """First the likelihood, then the preferences, from the model that this gave."""
    base = save_tiny(tmp_path / "base", tiny_llama(layers=1), template=False)
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    sections: dict[str, Any] = {"data": {"format": form}, "train": {"max_steps": 2}}
    notes = Notes()
    sft = train_run(
        tiny_config(base, objective={"loss": "sft"}, **sections), data, tmp_path / "sft", reporter=notes
    )
    assert any("8 rows: 8 kept" in line for line in notes.lines)
    dpo = train_run(tiny_config(sft.run / "model", **sections), data, tmp_path / "dpo")
    assert dpo.first["loss"] == pytest.approx(0.6931472, abs=1e-6)


def test_a_model_with_a_template_may_be_trained_in_any_form() -> None:
    for form in ("chat", "transcript", "plain"):
        require_chat_format(CHAT, tiny_config("none", data={"format": form}))


@pytest.mark.slow
def test_a_plan_of_the_likelihood_knows_that_there_is_one_response(tmp_path: Path) -> None:
    """Fewer tokens than those of pairs, with data and without."""
    source = save_tiny(tmp_path / "start", tiny_llama(layers=2))
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    engine = {"micro_batch_tokens": 200}  # two examples of 96 tokens, or one pair
    dpo, sft = (tiny_config(source, objective={"loss": loss}, engine=engine) for loss in ("dpo", "sft"))
    assert plan_run(sft, data=data).pairs == plan_run(dpo, data=data).pairs == 8
    assumed = plan_run(sft)
    assert "examples are assumed" in assumed.notes[0]
    assert assumed.micro_batches * 2 == plan_run(dpo).micro_batches
