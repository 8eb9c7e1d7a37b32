"""The file of scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny import pair_rows, save_tiny, tiny_config, tiny_llama, write_rows

from penchant import score
from penchant.data.exclusions import Exclusion, said_digest, write_exclusions
from penchant.data.source import load_pairs
from penchant.errors import DiskError, Stopped
from penchant.workflow.score import score_file
from penchant.workflow.stopping import Stopper


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score")
    save_tiny(folder / "start", tiny_llama(layers=2))
    write_rows(folder / "pairs.jsonl", pair_rows(6))
    return folder


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_a_pair_in_the_order_of_the_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "scores.jsonl"
    assert score_file(tiny_config(folder / "start"), folder / "pairs.jsonl", out, limit=4) == 4
    found = lines(out)
    assert [line["id"] for line in found] == [f"row-{index}" for index in range(4)]
    for line in found:
        assert set(line) == {"id", "chosen_logps", "rejected_logps", "chosen_tokens", "rejected_tokens"}
        assert line["chosen_logps"] < 0
        assert line["rejected_logps"] < 0


def test_rows_left_out_by_hand_have_no_line(folder: Path, tmp_path: Path) -> None:
    pairs, _ = load_pairs(folder / "pairs.jsonl")
    exclude, out = tmp_path / "exclude.jsonl", tmp_path / "scores.jsonl"
    write_exclusions(exclude, [Exclusion(pairs[2].id, said_digest(pairs[2]), "here", "unclear")])
    config = tiny_config(folder / "start", data={"exclude": str(exclude)})
    assert score_file(config, folder / "pairs.jsonl", out) == 5
    kept = [f"row-{index}" for index in (0, 1, 3, 4, 5)]
    assert [line["id"] for line in lines(out)] == kept
    assert score(str(folder / "start"), folder / "pairs.jsonl", config=config).ids == kept


def test_ids_are_those_that_were_counted(folder: Path, tmp_path: Path) -> None:
    plain, with_ids = tmp_path / "plain.jsonl", tmp_path / "ids.jsonl"
    score_file(tiny_config(folder / "start"), folder / "pairs.jsonl", plain)
    score_file(tiny_config(folder / "start"), folder / "pairs.jsonl", with_ids, ids=True)
    for bare, line in zip(lines(plain), lines(with_ids), strict=True):
        assert (len(line["chosen_ids"]), len(line["rejected_ids"])) == (
            line["chosen_tokens"],
            line["rejected_tokens"],
        )
        assert line["prompt_ids"]
        assert {name: line[name] for name in bare} == bare


def test_scores_do_not_depend_on_how_they_are_batched(folder: Path, tmp_path: Path) -> None:
    found = []
    for tokens in (1, 4096):
        out = tmp_path / f"{tokens}.jsonl"
        config = tiny_config(folder / "start", engine={"micro_batch_tokens": tokens})
        score_file(config, folder / "pairs.jsonl", out)
        found.append([line["chosen_logps"] for line in lines(out)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_stop_or_a_folder_in_the_way_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    stopper = Stopper()
    stopper.requested = True
    config = tiny_config(folder / "start")
    with pytest.raises(Stopped):
        score_file(config, folder / "pairs.jsonl", tmp_path / "scores.jsonl", stopper=stopper)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(DiskError):
        score_file(config, folder / "pairs.jsonl", tmp_path / "file" / "scores.jsonl")
