"""The reference store: what is there is reused, whatever else changed, and nothing else is scored."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.counted import Counted
from tests.tiny import (
    pair_model,
    pair_rows,
    plain_token_logps,
    random_groups,
    random_pairs,
    save_tiny,
    step_metrics,
    tiny_config,
    tiny_llama,
    write_rows,
)

import penchant.objective.reference as module
import penchant.workflow.train as train_module
from penchant.batching.pair_batch import pair_group
from penchant.models.bundled import cache_directory
from penchant.objective.logps import pair_logps
from penchant.objective.pair_model import PairModel
from penchant.objective.reference import Reference, reference_logps
from penchant.objective.score import score_groups, score_pairs
from penchant.objective.shards import read_shard, write_shard
from penchant.types import TokenizedPair
from penchant.workflow.train import train_run

PAIRS = random_pairs(7, seed=5)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def notes() -> list[str]:
    return []


def stored(
    folder: Path,
    model: PairModel,
    pairs: list[TokenizedPair] = PAIRS,
    note: Callable[[str], None] | None = None,
    chunks: list[list[int]] | None = None,
) -> Reference:
    return reference_logps(model, pairs, folder, micro_batch_tokens=64, note=note, chunks=chunks)


def bf16(model: PairModel) -> PairModel:
    """The same model, its products in bf16."""
    model.precision = "bf16"
    return model


def assert_equal(one: Reference, other: Reference) -> None:
    for name, value in vars(one.logps).items():
        assert torch.equal(value, getattr(other.logps, name)), name


def test_a_store_is_reused_and_gives_the_same_numbers(tmp_path: Path, counted: Counted) -> None:
    """The second time only the spot check calls the model, and every value is the same bit for bit."""
    model = pair_model(tiny_llama())
    first = stored(tmp_path, model)
    assert (first.reused, first.scored, first.spot_check) == (0, 7, None)
    assert sum(counted.passes()) == 14
    second = stored(tmp_path, model)
    assert (second.reused, second.scored) == (7, 0)
    assert sum(counted.passes()) == 4
    assert second.spot_check is not None
    assert (second.spot_check.pairs, second.spot_check.passed) == (2, True)
    assert_equal(second, first)


def test_the_store_holds_what_the_model_says(tmp_path: Path) -> None:
    """Token by token under the key of the pair, and the sums of these."""
    model = pair_model(tiny_llama())
    reference = stored(tmp_path, model)
    expected = plain_token_logps(model.model, [pair_group(pair) for pair in PAIRS]).detach()
    (path,) = reference.folder.iterdir()
    assert torch.allclose(read_shard(path, reference.folder.name).token_logps, expected, rtol=1e-5, atol=1e-5)
    lengths = [len(ids) for pair in PAIRS for ids in (pair.chosen_ids, pair.rejected_ids)]
    by_response = torch.stack([part.sum() for part in expected.split(lengths)])
    assert torch.allclose(reference.logps.chosen, by_response[0::2], rtol=1e-5)
    assert torch.allclose(reference.logps.rejected, by_response[1::2], rtol=1e-5)
    assert reference.logps.chosen_tokens.tolist() == lengths[0::2]
    assert reference.logps.rejected_tokens.tolist() == lengths[1::2]


def test_sums_are_those_of_the_policy_to_the_last_bit(tmp_path: Path) -> None:
    """Fresh and from the store: what `pair_logps` makes of the same passes."""
    model = pair_model(tiny_llama())
    chunks = [[4, 2, 0], [1, 6], [3, 5]]
    for _ in range(2):
        reference = stored(tmp_path, model, chunks=chunks).logps
        for chunk in chunks:
            batch = model.collate([pair_group(PAIRS[index]) for index in chunk])
            with torch.no_grad():
                policy = pair_logps(model(batch), batch)
            assert torch.equal(policy.chosen, reference.chosen[chunk])
            assert torch.equal(policy.rejected, reference.rejected[chunk])
            assert torch.equal(policy.chosen_tokens, reference.chosen_tokens[chunk])


def test_pairs_out_of_the_chunks_have_no_number(tmp_path: Path, counted: Counted) -> None:
    reference = stored(tmp_path, pair_model(tiny_llama()), chunks=[[1, 3]])
    assert sum(counted.passes()) == 4
    assert reference.logps.chosen.isnan().nonzero().flatten().tolist() == [0, 2, 4, 5, 6]
    assert reference.logps.chosen_tokens[0] == 0


@pytest.mark.parametrize("how", ["subset", "superset", "order", "names"])
def test_other_choices_of_pairs_score_only_what_is_new(tmp_path: Path, counted: Counted, how: str) -> None:
    """What two data sets share is scored once; each pair keeps its number wherever it stands."""
    model = pair_model(tiny_llama())
    first = stored(tmp_path, model)
    number = {
        str(pair.scored_content): value for pair, value in zip(PAIRS, first.logps.chosen.tolist(), strict=True)
    }
    new = random_pairs(3, seed=77)
    pairs = {
        "subset": PAIRS[2:5],
        "superset": [new[0], *PAIRS[:4], new[1], *PAIRS[4:], new[2]],
        "order": random.Random(3).sample(PAIRS, len(PAIRS)),
        "names": [replace(pair, id="other", cluster="other", chosen_complete=False) for pair in PAIRS],
    }[how]
    counted.passes()
    again = stored(tmp_path, model, pairs)
    fresh = 3 if how == "superset" else 0
    assert (again.reused, again.scored) == (len(pairs) - fresh, fresh)
    assert sum(counted.passes()) == 2 * (fresh + module.SPOT_CHECK_PAIRS)
    for pair, value in zip(pairs, again.logps.chosen.tolist(), strict=True):
        assert value == number.get(str(pair.scored_content), value)
    expected = score_pairs(model, pairs, micro_batch_tokens=64)
    assert torch.allclose(again.logps.chosen, expected.chosen, rtol=1e-5)
    assert torch.allclose(again.logps.rejected, expected.rejected, rtol=1e-5)
    counted.passes()
    assert stored(tmp_path, model, pairs).scored == 0


def test_pairs_of_one_content_are_scored_once(tmp_path: Path, counted: Counted) -> None:
    """Within a pass and across passes; each gets the number, and none is missing in the count."""
    model = pair_model(tiny_llama())
    pairs = [*PAIRS[:2], replace(PAIRS[0], id="again"), *PAIRS[2:], replace(PAIRS[1], id="again")]
    told: list[int] = []
    reference = reference_logps(
        model,
        pairs,
        tmp_path,
        micro_batch_tokens=64,
        chunks=[[0, 1, 2], [3, 4, 5], [6, 7, 8]],
        on_pairs=told.append,
    )
    assert counted.passes() == [4, 6, 4]
    assert sum(told) == reference.scored == 9
    assert reference.logps.chosen[2] == reference.logps.chosen[0]
    assert reference.logps.rejected[8] == reference.logps.rejected[1]
    assert torch.allclose(
        reference.logps.chosen, score_pairs(model, pairs, micro_batch_tokens=64).chosen, rtol=1e-5
    )


def test_in_bf16_only_the_same_pass_is_reused(tmp_path: Path, counted: Counted) -> None:
    """A pass with other company, or in another order, is scored whole; the same one is not."""
    model = bf16(pair_model(tiny_llama()))
    stored(tmp_path, model, chunks=[[0, 1], [2, 3], [4, 5, 6]])
    assert counted.passes() == [4, 4, 6]
    again = stored(tmp_path, model, chunks=[[4, 5, 6], [0, 2], [1, 3]])
    assert (again.reused, again.scored) == (3, 4)
    assert counted.passes() == [4, 4, 4]  # the spot check, and the two new passes
    assert stored(tmp_path, model, chunks=[[1, 0]]).reused == 0  # another place in the row
    assert stored(tmp_path, model, chunks=[[2, 3], [4, 5, 6], [0, 1]]).scored == 0


@pytest.mark.parametrize("column", ["prompt_ids", "chosen_ids", "rejected_ids"])
def test_another_id_is_scored_anew(tmp_path: Path, column: str) -> None:
    """A changed token of prompt or response, lengths equal, makes another pair, and only that one."""
    model = pair_model(tiny_llama())
    before = stored(tmp_path, model)
    ids = getattr(PAIRS[2], column)
    changed = [*PAIRS]
    changed[2] = replace(PAIRS[2], **{column: ((ids[0] + 1) % 200 + 3, *ids[1:])})
    after = stored(tmp_path, model, changed)
    assert after.scored == 1
    assert not torch.equal(
        (before.logps.chosen + before.logps.rejected)[2], (after.logps.chosen + after.logps.rejected)[2]
    )


def test_another_weight_is_another_store(tmp_path: Path) -> None:
    """One number of one frozen or trained parameter, changed by one part in a million."""
    model = pair_model(tiny_llama())
    one = stored(tmp_path, model)
    with torch.no_grad():
        model.model.get_input_embeddings().weight[7, 3] += 1e-6  # type: ignore[union-attr,operator,index]
    other = stored(tmp_path, model)
    assert (other.reused, other.scored) == (0, 7)
    assert other.folder != one.folder


def test_the_digest_is_taken_on_trust_and_not_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "weights_digest", None)
    model = pair_model(tiny_llama())
    one = reference_logps(model, PAIRS, tmp_path, micro_batch_tokens=64, weights="one")
    other = reference_logps(model, PAIRS, tmp_path, micro_batch_tokens=64, weights="other")
    assert one.folder != other.folder
    assert other.reused == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_store_of_other_values_fails_the_spot_check(tmp_path: Path, notes: list[str], precision: str) -> None:
    """Under the right name lie another model's numbers: all are discarded, scored anew, and found from then on."""
    right, wrong = pair_model(tiny_llama(seed=1)), pair_model(tiny_llama(seed=2))
    if precision == "bf16":
        bf16(right)
        bf16(wrong)
    chunks = [[0, 1, 2], [3, 4], [5, 6]]
    settings = {"micro_batch_tokens": 64, "weights": "these", "chunks": chunks}
    reference_logps(wrong, PAIRS, tmp_path, **settings)  # type: ignore[arg-type]
    told: list[int] = []
    found = reference_logps(right, PAIRS, tmp_path, note=notes.append, on_pairs=told.append, **settings)  # type: ignore[arg-type]
    assert (found.reused, found.scored) == (0, 7)
    assert sum(told) == 7
    assert found.spot_check is not None
    assert not found.spot_check.passed
    assert len(notes) == 1
    assert "7 stored pairs are discarded" in notes[0]
    expected = score_pairs(right, PAIRS, micro_batch_tokens=64)
    rounding = 1e-5 if precision == "fp32" else 1e-2  # bf16 sums depend on what shares a pass
    assert torch.allclose(found.logps.chosen, expected.chosen, rtol=rounding)
    again = reference_logps(right, PAIRS, tmp_path, note=notes.append, **settings)  # type: ignore[arg-type]
    assert (again.reused, len(notes)) == (7, 1)
    assert_equal(again, found)


@pytest.mark.parametrize(("error", "passes"), [(0.5e-4, True), (3e-4, False)])
def test_the_spot_check_allows_rounding_and_no_more(tmp_path: Path, error: float, passes: bool) -> None:
    """In fp32 a ten-thousandth of the sum, of whichever pair is drawn."""
    model = pair_model(tiny_llama())
    stored_by = reference_logps(model, PAIRS, tmp_path, micro_batch_tokens=64, weights="these")
    (path,) = stored_by.folder.iterdir()
    shard = read_shard(path, stored_by.folder.name)
    path.unlink()
    write_shard(stored_by.folder, replace(shard, token_logps=shard.token_logps * (1 + error)))
    again = reference_logps(model, PAIRS, tmp_path, micro_batch_tokens=64, weights="these")
    assert again.spot_check is not None
    assert again.spot_check.passed is passes
    assert again.reused == (7 if passes else 0)


def test_a_model_of_no_numbers_is_stored_as_it_is(tmp_path: Path) -> None:
    """Its sums are no numbers the second time either, so the store is right; the step refuses them."""
    model = pair_model(tiny_llama())
    with torch.no_grad():
        model.model.get_parameter("lm_head.weight").fill_(float("nan"))
    stored(tmp_path, model)
    again = stored(tmp_path, model)
    assert again.spot_check is not None
    assert again.spot_check.passed
    assert again.reused == 7
    assert again.logps.chosen.isnan().all()


def test_many_pairs_lie_in_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard is written as soon as it is full, so that a kill loses little."""
    monkeypatch.setattr(module, "FLUSH_PAIRS", 3)
    model = pair_model(tiny_llama())
    at_each: list[int] = []

    def look(_: int) -> None:
        at_each.append(len(list(tmp_path.glob("*/*.safetensors"))))

    reference = reference_logps(
        model, PAIRS, tmp_path, micro_batch_tokens=64, chunks=[[i] for i in range(7)], on_pairs=look
    )
    assert at_each == [0, 0, 0, 1, 1, 1, 2]
    assert len(list(reference.folder.iterdir())) == 3
    assert_equal(stored(tmp_path, model), reference)


def test_scores_come_in_the_order_of_groups_of_any_size() -> None:
    """Groups of one to three responses, sorted by length for the passes, are answered as they were asked."""
    model = pair_model(tiny_llama())
    groups = [g for n in (1, 3, 2) for g in random_groups(3, seed=n, responses=n)]
    told: list[int] = []
    found = score_groups(model, groups, micro_batch_tokens=30, on_groups=told.append)
    assert sum(told) == len(groups)
    assert [len(row) for row in found] == [len(group.responses) for group in groups]
    flat = torch.cat([tokens for row in found for tokens in row])
    assert torch.allclose(flat, plain_token_logps(model.model, groups).detach(), rtol=1e-5, atol=1e-5)


def test_a_run_says_where_its_reference_is_from(tmp_path: Path) -> None:
    """Name and place of the store, what was reused and scored, how the check went; nothing else in the folder."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    source = save_tiny(tmp_path / "start")
    for name, reused, scored in (("one", 0, 8), ("two", 8, 0)):
        run = train_run(tiny_config(source, train={"epochs": 1.0}), data, tmp_path / name).run
        facts = json.loads((run / "reference" / "store.json").read_text(encoding="utf-8"))
        assert [path.name for path in (run / "reference").iterdir()] == ["store.json"]
        assert (facts["reused"], facts["scored"]) == (reused, scored)
        assert Path(facts["folder"]) == cache_directory() / "reference" / facts["store"]
        assert Path(facts["folder"]).is_dir()
        assert (facts["spot_check"] is None) is (reused == 0)
        if reused:
            assert facts["spot_check"]["pairs"] == 2
            assert facts["spot_check"]["passed"] is True


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"beta": 0.7}},
        {"train": {"learning_rate": 1e-5}},
        {"train": {"seed": 4}},
        {"train": {"max_steps": 1}},
        {"objective": {"label_smoothing": 0.2, "logps": "mean"}},
    ],
    ids=str,
)
def test_a_sweep_scores_its_reference_once(
    tmp_path: Path, counted: Counted, changes: dict[str, dict[str, float]]
) -> None:
    """Runs into folders of their own: the second calls the model for its steps and the spot check only."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    source = save_tiny(tmp_path / "start")
    steps = {"max_steps": 2, "batch_pairs": 4}
    train_run(tiny_config(source, train=steps), data, tmp_path / "run")
    counted.passes()
    changed = {**changes, "train": {**steps, **changes.get("train", {})}}
    run = train_run(tiny_config(source, **changed), data, tmp_path / "other").run
    count = len(step_metrics(run))
    assert counted.passes() == [4, *([8] * count)]
    assert step_metrics(run)[0]["loss"] == pytest.approx(0.6931471805599453, abs=1e-6)


def test_the_weights_are_hashed_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    digest = train_module.weights_digest

    def counting(model: torch.nn.Module) -> str:
        calls.append(1)
        return digest(model)

    monkeypatch.setattr(train_module, "weights_digest", counting)
    monkeypatch.setattr(module, "weights_digest", counting)
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(4))
    train_run(tiny_config(save_tiny(tmp_path / "start"), train={"max_steps": 1}), data, tmp_path / "run")
    assert len(calls) == 1
