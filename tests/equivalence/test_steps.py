"""A step's numbers do not depend on how it was split, what was kept, or whether the run was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.textbook import dpo_loss
from tests.tiny import (
    StopAfter,
    largest_difference,
    pair_model,
    pair_rows,
    plain_token_logps,
    random_pairs,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)
from transformers import AutoModelForCausalLM

from penchant.batching.packing import step_indices
from penchant.batching.pair_batch import pair_group
from penchant.errors import Stopped
from penchant.models.freeze import choose_trainable
from penchant.models.load import load_model
from penchant.objective.reference import reference_logps
from penchant.objective.score import score_pairs
from penchant.objective.trunk_cache import TrunkCache
from penchant.tokens.chat import tokenize_pair
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.schedule import learning_rate
from penchant.training.step import Trainer
from penchant.types import PreferencePair, TokenizedPair, Turn
from penchant.workflow.setup import read_pairs
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

INVARIANT = 1e-6
PAIRS = random_pairs(24, seed=3)


def trained(
    folder: Path,
    *,
    pairs: list[TokenizedPair] = PAIRS,
    last_layers: int | None = None,
    trunk: bool = True,
    sharing: bool = True,
    cache_bytes: int = 1 << 20,
    **sections: dict[str, Any],
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Train the tiny model on some pairs; its weights and the metrics of every step."""
    sections["train"] = {"learning_rate": 1e-4, "batch_pairs": 8, "max_steps": 4, **sections.get("train", {})}
    config = tiny_config("tiny", **sections)
    model = tiny_llama(seed=2)
    part = choose_trainable(model, last_layers)
    scorer = pair_model(model, trunk_layers=part.frozen_layers if trunk else 0, prefix_sharing=sharing)
    cache = TrunkCache(cache_bytes)
    tokens = config.engine.micro_batch_tokens
    reference = reference_logps(scorer, pairs, folder, micro_batch_tokens=tokens, trunk_cache=cache).logps
    assert (len(cache) == len(pairs)) is (scorer.trunk_layers > 0 and cache_bytes >= 1 << 20)
    lines: list[dict[str, float]] = []
    trainer = Trainer(config, scorer, pairs, reference, make_optimizer(config, scorer), cache)
    train(trainer, lambda _, line: lines.append(line))
    last = step_indices(trainer.total_steps - 1, count=len(pairs), batch=config.train.batch_pairs, seed=0)
    assert all(cache.get([index]) is None for index in last)  # let go of after their last use
    assert lines[-1]["loss"] != pytest.approx(lines[0]["loss"], abs=1e-4)  # something was learnt
    return {name: value.detach().clone() for name, value in model.named_parameters()}, lines


def assert_same_course(
    one: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
    other: tuple[dict[str, torch.Tensor], list[dict[str, float]]],
) -> None:
    """Weights to 1e-6 of the largest; metrics to 1e-6 of the log-probabilities that they are made of."""
    for name, value in other[0].items():
        assert largest_difference(one[0][name], value) <= INVARIANT, name
    assert len(one[1]) == len(other[1])
    for left, right in zip(one[1], other[1], strict=True):
        assert left.keys() == right.keys()
        assert left["pairs"] == right["pairs"]
        for name in ("loss", "grad_norm", "logps/chosen", "logps/rejected", "learning_rate"):
            assert left[name] == pytest.approx(right[name], rel=INVARIANT), name
        if left["step"] > 1:  # in step 1 every margin is rounding
            assert left["rewards/accuracies"] == right["rewards/accuracies"]
        scale = abs(right["logps/chosen"]) + abs(right["logps/rejected"])
        for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
            assert left[name] == pytest.approx(right[name], abs=INVARIANT * scale), name


@pytest.mark.parametrize("logps", ["sum", "mean"])
def test_eight_micro_batches_give_the_step_of_one(tmp_path: Path, logps: str) -> None:
    """Eight micro-batches of a pair and one of eight pairs: the same metrics and weights after four steps."""
    objective = {"logps": logps, "label_smoothing": 0.1}
    apart = trained(tmp_path / "a", objective=objective, engine={"micro_batch_tokens": 1})
    whole = trained(tmp_path / "b", objective=objective, engine={"micro_batch_tokens": 1 << 20})
    assert_same_course(apart, whole)


def test_training_is_the_plain_dpo_script(tmp_path: Path) -> None:
    """Four steps equal a textbook script: two whole models, one sequence at a time, PyTorch's own AdamW."""
    weights, lines = trained(tmp_path / "a", train={"weight_decay": 0.1, "clip_norm": 1.0})
    config = tiny_config("tiny", train={"learning_rate": 1e-4, "batch_pairs": 8, "max_steps": 4}).train
    policy, reference = tiny_llama(seed=2), tiny_llama(seed=2)
    decayed = [p for p in policy.parameters() if p.ndim > 1]
    plain = [p for p in policy.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        betas=(config.adam_beta1, config.adam_beta2),
    )

    for step, line in enumerate(lines):
        indices = step_indices(step, count=len(PAIRS), batch=8, seed=0)
        loss = dpo_loss(policy, reference, [PAIRS[index] for index in indices])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step, 4)
        optimizer.step()
        optimizer.zero_grad()
        assert line["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert line["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    for name, parameter in policy.named_parameters():
        assert largest_difference(weights[name], parameter.detach()) <= 1e-5, name


def test_sft_does_not_depend_on_the_split(tmp_path: Path) -> None:
    """The same for the likelihood of whole responses, whose loss is no difference of two models."""
    objective = {"loss": "sft", "logps": "sum"}
    apart, lines = trained(tmp_path / "a", objective=objective, engine={"micro_batch_tokens": 20})
    whole, whole_lines = trained(tmp_path / "b", objective=objective)
    for name, value in whole.items():
        assert largest_difference(apart[name], value) <= INVARIANT, name
    for left, right in zip(lines, whole_lines, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=INVARIANT)
        assert left["loss"] == pytest.approx(-left["logps/chosen"], rel=INVARIANT)


def test_separate_sequences_train_like_shared_prefixes(tmp_path: Path) -> None:
    """Four optimizer steps on the padded slow twin end in the same weights."""
    assert_same_course(trained(tmp_path / "a"), trained(tmp_path / "b", sharing=False))


def test_trunk_trains_like_the_full_model_with_the_same_freezing(tmp_path: Path) -> None:
    """Sharing the frozen layers, cached or not, gives the weights that the full forward gives."""
    full = trained(tmp_path / "a", last_layers=1, trunk=False)
    assert_same_course(trained(tmp_path / "b", last_layers=1, cache_bytes=0), full)
    assert_same_course(trained(tmp_path / "c", last_layers=1), full)
    partly = trained(tmp_path / "d", last_layers=1, cache_bytes=20_000)
    assert_same_course(partly, full)


def test_frozen_parameters_do_not_move(tmp_path: Path) -> None:
    """Only the last layer, the norm and the head differ from the start after training."""
    start = dict(tiny_llama(seed=2).named_parameters())
    weights, _ = trained(tmp_path / "a", last_layers=1)
    moved = {name for name, value in weights.items() if not torch.equal(value, start[name])}
    free = {name for name in start if name.startswith(("model.layers.3.", "model.norm.", "lm_head."))}
    assert moved == free


def files_of_the_model(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "model").iterdir())}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", pair_rows(14))


@pytest.mark.parametrize("last_layers", [None, 1])
def test_a_run_done_twice_is_the_same_bytes(tmp_path: Path, data: Path, last_layers: int | None) -> None:
    """Two runs of one configuration write the same model files and the same metrics."""
    source = save_tiny(tmp_path / "start", tiny_llama(tied=True))
    config = tiny_config(source, model={"last_layers": last_layers}, train={"max_steps": 4})
    runs = [train_run(config, data, tmp_path / name).run for name in ("one", "two")]
    assert step_metrics(runs[0]) == step_metrics(runs[1])
    assert files_of_the_model(runs[0]) == files_of_the_model(runs[1])
    moved = load_model(str(runs[0] / "model")).model.state_dict()
    start = load_model(str(source)).model.state_dict()
    assert not torch.equal(moved["lm_head.weight"], start["lm_head.weight"])


@pytest.mark.parametrize("last_layers", [None, 2])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, data: Path, last_layers: int | None) -> None:
    """Stopped after step 3, resumed in a fresh process state: the same model bytes and the same metrics."""
    source = save_tiny(tmp_path / "start")
    config = tiny_config(source, model={"last_layers": last_layers}, train={"max_steps": 6})
    whole = train_run(config, data, tmp_path / "whole").run
    run = tmp_path / "halved"
    stopper = Stopper()
    with pytest.raises(Stopped):
        train_run(config, data, run, stopper=stopper, reporter=StopAfter(stopper, 3))
    assert [line["step"] for line in step_metrics(run)] == [1, 2, 3]
    assert not (run / "model").exists()
    torch.manual_seed(99)
    result = train_run(config, data, run, resume=True)
    assert result.steps == 6
    assert step_metrics(run) == step_metrics(whole)
    assert files_of_the_model(run) == files_of_the_model(whole)


def test_resume_from_an_older_checkpoint_repeats_the_steps_after_it(tmp_path: Path, data: Path) -> None:
    """After a kill past the last checkpoint the repeated steps stand in the metrics once, unchanged."""
    source = save_tiny(tmp_path / "start")
    config = tiny_config(source, train={"max_steps": 6, "checkpoint_every": 2})
    whole = train_run(config, data, tmp_path / "whole").run
    run = tmp_path / "killed"
    train_run(config, data, run)
    (run / "checkpoints" / "step-6" / "manifest.json").unlink()  # as if killed while it was written
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20], encoding="utf-8")
    train_run(config, data, run, resume=True)
    assert step_metrics(run) == step_metrics(whole)
    assert files_of_the_model(run) == files_of_the_model(whole)


@pytest.mark.parametrize("last_layers", [None, 1])
def test_saved_policy_opens_with_plain_transformers(tmp_path: Path, data: Path, last_layers: int | None) -> None:
    """AutoModelForCausalLM reads the trained model, head untied or not, and scores pairs like the policy."""
    source = save_tiny(tmp_path / "start", tiny_llama(tied=True))
    config = tiny_config(source, model={"last_layers": last_layers}, train={"max_steps": 3})
    run = train_run(config, data, tmp_path / "run").run
    saved_config = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
    assert saved_config["tie_word_embeddings"] is (last_layers is None)

    plain = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32).eval()
    ours = load_model(str(run / "model"))
    pair = PreferencePair("a", (Turn("user", "the sun"),), "moon", "rain falls")
    tokenized, _ = tokenize_pair(pair, ours.chat, config.data)
    assert tokenized is not None
    scores = score_pairs(pair_model(ours.model), [tokenized], micro_batch_tokens=512)
    ids = torch.tensor([tokenized.prompt_ids + tokenized.chosen_ids])
    table = torch.log_softmax(plain(ids).logits[0], dim=-1)
    start = len(tokenized.prompt_ids)
    expected = table[start - 1 : -1].gather(-1, ids[0, start:, None]).sum()
    assert float(scores.chosen[0]) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_run_whose_steps_are_nothing_saves_the_start(tmp_path: Path, data: Path) -> None:
    """With a vanishing learning rate the saved weights are the start's bits, and score pairs like it."""
    source = save_tiny(tmp_path / "start")
    config = tiny_config(source, train={"max_steps": 1, "learning_rate": 1e-30, "weight_decay": 0.0})
    run = train_run(config, data, tmp_path / "run").run
    start, after = load_model(str(source)), load_model(str(run / "model"))
    for name, value in start.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], value), name
    pairs, _ = read_pairs(data, split=None)
    tokenized = [tokenize_pair(pair, start.chat, config.data)[0] for pair in pairs]
    kept = [pair for pair in tokenized if pair is not None]
    scores = score_pairs(pair_model(after.model), kept, micro_batch_tokens=512)
    expected = plain_token_logps(start.model, [pair_group(pair) for pair in kept]).detach().sum()
    assert float((scores.chosen + scores.rejected).sum()) == pytest.approx(float(expected), rel=1e-5)


def test_pairs_of_one_prompt_in_one_step_cost_fewer_tokens(tmp_path: Path) -> None:
    """Three pairs for each of four prompts: shuffled by prompts, a prompt is fed once a step."""
    rows = pair_rows(12)
    for number, row in enumerate(rows):
        row["prompt"] = rows[number // 3 * 3]["prompt"]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    source = save_tiny(tmp_path / "start")
    tokens = {}
    for order in ("pairs", "prompts"):
        config = tiny_config(source, train={"batch_pairs": 3, "max_steps": 4, "order": order})
        lines = step_metrics(train_run(config, data, tmp_path / order).run)
        assert lines[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
        tokens[order] = sum(line["tokens"] for line in lines)
    assert tokens["prompts"] < tokens["pairs"]
