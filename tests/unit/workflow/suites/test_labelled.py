"""Held-out responses with a label: KTO's data, judged without any pair."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import loaded, tiny_config, tiny_llama, write_rows

from penchant.errors import DataError
from penchant.workflow.suites.labelled import LABELLED_RESPONSES
from penchant.workflow.suites.pairs import pair_suites
from penchant.workflow.suites.suite import Suite, Work

ROWS = [
    {"id": f"row-{at}", "prompt": f"say {word}", "completion": word, "label": at % 2 == 0}
    for at, word in enumerate(["sun", "moon", "rain", "snow"])
]


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    [suite] = pair_suites(write_rows(tmp_path / "kto.jsonl", ROWS), [tiny_config("m", objective={"loss": "kto"})])
    assert suite.name == LABELLED_RESPONSES
    return suite


def test_each_kind_has_its_lines_and_the_reward_its_area(suite: Suite) -> None:
    work = Work("after KTO", tiny_config("m", objective={"beta": 0.1}))
    theirs = suite.measure(loaded(tiny_llama(layers=1)), work)
    gains = [1.0, -2.0, -3.0, 0.0]  # nats, in favour of the first only, against the second and third
    ours = {**theirs, "chosen": [old + gain for old, gain in zip(theirs["chosen"], gains, strict=True)]}
    found = suite.judge(ours, theirs, work)
    lines = {line.name: line for line in found.lines["preference"]}
    assert list(lines["rewards with their label's sign"].values.values()) == [1, 1, 0, 0.5]
    assert list(lines["implicit reward, desirable responses"].values.values()) == pytest.approx([0.1, -0.3])
    assert list(lines["implicit reward, undesirable responses"].values.values()) == pytest.approx([-0.2, 0.0])
    assert list(lines["loss a token, desirable responses, nats"].values) == [theirs["ids"][0], theirs["ids"][2]]
    assert found.figures["reward_auc"] == 0.5  # 0.1 beats both, -0.3 neither
    assert suite.judge(theirs, None, work).figures == {}


def test_rows_that_are_neither_are_explained_as_pairs(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "odd.jsonl", [{"prompt": "say sun", "answer": "sun"}])
    with pytest.raises(DataError) as as_pairs:
        pair_suites(file, [tiny_config("m")])
    assert "label" not in as_pairs.value.what
