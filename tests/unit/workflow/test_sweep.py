"""A sweep on a tiny model: each run is the one that `penchant train` makes, and what is equal is computed once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny import (
    Notes,
    StopAfter,
    pair_rows,
    plain_token_logps,
    save_tiny,
    step_metrics,
    tiny_llama,
    write_rows,
)

from penchant.batching.pair_batch import pair_group
from penchant.data.source import load_pairs
from penchant.errors import DataError, Stopped, UsageError
from penchant.models.load import load_model
from penchant.objective.pair_model import PairModel
from penchant.tokens.chat import tokenize_pair
from penchant.workflow import token_memory
from penchant.workflow.stopping import Stopper
from penchant.workflow.sweep import Sweep, sweep_run
from penchant.workflow.sweep_grid import parse_grid, sweep_points
from penchant.workflow.train import train_run

BETAS = "objective.beta=0.05,0.3"


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else here; the sweep that all tests look at has drawn before this."""
    monkeypatch.setattr("penchant.workflow.sweep.write_report", lambda _: None)
    monkeypatch.setattr("penchant.workflow.sweep.write_sweep_page", lambda *_: None)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a start model, a recipe and pairs."""
    folder = tmp_path_factory.mktemp("source")
    save_tiny(folder / "start", tiny_llama(layers=3))
    write_rows(folder / "pairs.jsonl", pair_rows(48))
    recipe = {
        "model": {"path": str(folder / "start"), "last_layers": 2},
        "data": {"max_tokens": 96},
        "train": {"batch_pairs": 8, "max_steps": 3, "learning_rate": 3e-3, "checkpoint_every": 1},
        "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


def asked(source: Path, out: Path, *grid: str, sets: tuple[str, ...] = (), **options: Any) -> Sweep:
    points = sweep_points(str(source / "tiny.yaml"), sets, parse_grid(grid or (BETAS,)), out)
    given: dict[str, Any] = {"validation_fraction": 0.25, "prompts": 4, "answer_tokens": 6, **options}
    return Sweep(points, source / "pairs.jsonl", out, **given)


class Counts:
    """How often the frozen layers were run, and how many pairs were tokenized, when each run began."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.trunks = self.tokenized = 0
        trunk, tokenize = PairModel.trunk, token_memory.tokenize_pair

        def counted_trunk(model: PairModel, *given: Any) -> Any:
            self.trunks += 1
            return trunk(model, *given)

        def counted_pair(*given: Any) -> Any:
            self.tokenized += 1
            return tokenize(*given)

        patched.setattr(PairModel, "trunk", counted_trunk)
        patched.setattr(token_memory, "tokenize_pair", counted_pair)


class AtRuns(Notes):
    """Takes the counts whenever a run begins."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts
        self.seen: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        super().note(text)
        if text.startswith("Run "):
            self.seen.append((self.counts.trunks, self.counts.tokenized))


@pytest.fixture(scope="module")
def swept(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], AtRuns]:
    """A finished sweep of two runs: its folder, what it returned, and what it said."""
    out = tmp_path_factory.mktemp("swept") / "sweep"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PENCHANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        notes = AtRuns(Counts(patched))
        found = sweep_run(asked(source, out), reporter=notes)
        notes.note("Run over")
    return out, found, notes


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def model_bytes(run: Path) -> dict[str, bytes]:
    """All files but the card, which names the folder of the data."""
    return {path.name: path.read_bytes() for path in sorted((run / "model").iterdir()) if path.suffix != ".md"}


def test_every_run_is_bit_for_bit_the_one_that_train_makes_alone(
    source: Path, swept: tuple[Path, dict[str, Any], AtRuns], tmp_path: Path
) -> None:
    """With a cache of its own, so nothing of the sweep can help it."""
    out, found, _ = swept
    for point, run in zip(asked(source, out).points, found["runs"], strict=True):
        alone = train_run(point.config, out / "data", tmp_path / point.folder).run
        assert step_metrics(out / run["folder"]) == step_metrics(alone)
        assert model_bytes(out / run["folder"]) == model_bytes(alone)
    first, second = (model_bytes(out / run["folder"])["model.safetensors"] for run in found["runs"])
    assert first != second


def test_the_second_run_scores_no_reference_runs_no_frozen_layer_and_tokenizes_nothing(
    swept: tuple[Path, dict[str, Any], AtRuns],
) -> None:
    out, found, notes = swept
    stores = [read(out / run["folder"] / "reference" / "store.json") for run in found["runs"]]
    seen = found["runs"][0]["train_pairs"]  # three steps of eight, of the pairs that there are
    assert [(store["reused"], store["scored"]) for store in stores] == [(0, seen), (seen, 0)]
    (_, _), (trunks, tokenized), (trunks_after, tokenized_after) = notes.seen
    assert tokenized == sum(len(load_pairs(out / "data" / f"{name}.jsonl")[0]) for name in ("train", "validation"))
    # after the second run: the store's spot check, the new answers, and the winner's test pairs with theirs
    test_pairs = len(load_pairs(out / "data" / "test.jsonl")[0])
    assert tokenized_after - tokenized == test_pairs
    assert 0 < trunks_after - trunks < trunks
    assert found["runs"][1]["seconds"]["trunk"] == 0 < found["runs"][0]["seconds"]["trunk"]


def test_what_was_won_is_what_a_plain_model_says(source: Path, swept: tuple[Path, dict[str, Any], AtRuns]) -> None:
    """Margins against transformers' own forward, one sequence at a time."""
    out, found, _ = swept
    run = out / found["runs"][1]["folder"]
    policy, reference = load_model(str(run / "model")), load_model(str(source / "start"))
    pairs = load_pairs(out / "data" / "validation.jsonl")[0]
    config = asked(source, out).points[0].config.data
    kept = [tokenized for pair in pairs if (tokenized := tokenize_pair(pair, reference.chat, config)[0])]
    expected = []
    for pair in kept:
        changes = [  # of the policy chosen and rejected, then of the reference
            plain_token_logps(one.model, [pair_group(pair)])[part].sum().item()
            for one in (policy, reference)
            for part in (slice(None, len(pair.chosen_ids)), slice(len(pair.chosen_ids), None))
        ]
        expected.append(changes[0] - changes[1] - changes[2] + changes[3])
    judged = read(run / "eval" / "sweep.json")
    assert judged["margins"] == pytest.approx(expected, abs=1e-3)
    assert judged["wins"] == [float(margin > 0) for margin in expected]
    assert found["runs"][1]["accuracy"] == pytest.approx(sum(judged["wins"]) / len(pairs))
    assert found["runs"][1]["kl"] == pytest.approx(sum(judged["divergences"]) / 4)


def test_the_winner_is_chosen_on_validation_and_looked_at_on_test_alone(
    swept: tuple[Path, dict[str, Any], AtRuns],
) -> None:
    out, found, _ = swept
    winner = found["winner"]
    tested = [
        run["folder"] for run in found["runs"] if (out / run["folder"] / "eval" / "sweep-test.json").exists()
    ]
    assert tested == [winner["folder"]]
    assert winner["test"]["pairs"] == len(load_pairs(out / "data" / "test.jsonl")[0])
    assert read(out / winner["folder"] / "eval" / "sweep-test.json")["split"] == "test"
    assert "With only" in winner["why"]  # some ten prompts say little, and it says so
    assert read(out / "sweep.json") == found
    page = (out / "sweep.html").read_text(encoding="utf-8")
    assert all(run["name"] in page and (out / run["folder"] / "report.html").exists() for run in found["runs"])


def test_the_parts_are_all_that_a_run_took_and_alone_is_never_less(
    swept: tuple[Path, dict[str, Any], AtRuns],
) -> None:
    _, found, _ = swept
    first, second = found["runs"]
    assert list(first["seconds"]) == ["setup", "tokens", "reference", "trunk", "training", "evaluation"]
    assert first["alone_seconds"] == pytest.approx(sum(first["seconds"].values()))
    shared = [
        max(first["seconds"][name], second["seconds"][name]) for name in first["seconds"] if name != "training"
    ]
    assert second["alone_seconds"] == pytest.approx(sum(shared) + second["seconds"]["training"])
    together = sum(sum(run["seconds"].values()) for run in found["runs"])
    assert found["seconds"]["together"] == pytest.approx(together)


def test_a_second_sweep_in_the_same_folder_is_refused_and_a_resume_of_something_else_too(
    source: Path, swept: tuple[Path, dict[str, Any], AtRuns]
) -> None:
    out, _, _ = swept
    before = (out / "sweep.json").read_bytes()
    with pytest.raises(UsageError, match="a sweep here already"):
        sweep_run(asked(source, out))
    with pytest.raises(UsageError, match=r"begun with something else: points 2\.config\.objective\.beta"):
        sweep_run(asked(source, out, "objective.beta=0.05,0.4"), resume=True)
    with pytest.raises(UsageError, match="something else: prompts"):
        sweep_run(asked(source, out, prompts=5), resume=True)
    assert (out / "sweep.json").read_bytes() == before


def test_a_resume_of_a_finished_sweep_does_nothing_and_says_the_same(
    source: Path, swept: tuple[Path, dict[str, Any], AtRuns], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, found, _ = swept

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished run was trained or judged again")

    monkeypatch.setattr("penchant.workflow.sweep.train_run", refused)
    monkeypatch.setattr("penchant.workflow.sweep.SweepJudge.judge", refused)
    assert sweep_run(asked(source, out), resume=True) == found


def test_changed_pairs_end_a_resume(
    source: Path, swept: tuple[Path, dict[str, Any], AtRuns], tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    (out / "data").mkdir(parents=True)
    for name in ("train", "validation", "test"):
        shutil.copy(swept[0] / "data" / f"{name}.jsonl", out / "data")
    write_rows(out / "data" / "test.jsonl", pair_rows(4))
    state = {"asked": asked(source, out).facts(), "data_sha256": read(swept[0] / "sweep.json")["data_sha256"]}
    (out / "sweep.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(DataError, match="not those that the sweep began with"):
        sweep_run(asked(source, out), resume=True)


def test_an_interrupted_sweep_keeps_what_is_finished_and_comes_to_the_same(
    source: Path, swept: tuple[Path, dict[str, Any], AtRuns], tmp_path: Path
) -> None:
    out, found, _ = swept
    again, stopper = tmp_path / "again", Stopper()
    first, second = (again / run["folder"] for run in found["runs"])
    shutil.copytree(out, again)
    shutil.rmtree(second)
    for tested in again.glob("*/eval/sweep-test.json"):
        tested.unlink()
    judged = (first / "eval" / "sweep.json").read_bytes()
    with pytest.raises(Stopped):
        sweep_run(asked(source, again), resume=True, reporter=StopAfter(stopper, 2), stopper=stopper)
    assert len(step_metrics(second)) == 2
    state = read(again / "sweep.json")
    assert [run["state"] for run in state["runs"]] == ["finished", "pending"]
    assert state["winner"]["folder"] == first.name
    assert "test" not in state["winner"]
    resumed = sweep_run(asked(source, again), resume=True)
    assert (first / "eval" / "sweep.json").read_bytes() == judged
    assert model_bytes(second) == model_bytes(out / second.name)
    timed = ("seconds", "alone_seconds")
    for new, old in zip(resumed["runs"], found["runs"], strict=True):
        assert {k: v for k, v in new.items() if k not in timed} == {k: v for k, v in old.items() if k not in timed}
    assert resumed["winner"] == found["winner"]


def test_a_run_that_fails_is_recorded_and_the_others_go_on(source: Path, tmp_path: Path) -> None:
    """The other's steps are too small to change a bit: then every pair is a tie, at no distance at all."""
    sets = ("train.schedule=constant", "train.final_fraction=null", "train.warmup_fraction=null")
    out = tmp_path / "sweep"
    found = sweep_run(asked(source, out, "train.learning_rate=1e30,1e-30", sets=sets))
    failed, finished = found["runs"]
    assert (failed["state"], failed["exit_code"]) == ("failed", 10)
    assert "finite" in failed["reason"]
    assert read(out / failed["folder"] / "status.json")["state"] == "failed"
    assert (finished["state"], found["winner"]["folder"]) == ("finished", finished["folder"])
    assert found["winner"]["why"].endswith("is the only run.")
    assert (finished["accuracy"], finished["kl"]) == (0.5, 0.0)
    assert set(read(out / finished["folder"] / "eval" / "sweep.json")["margins"]) == {0.0}
