"""Patterns name whole parts of names, and one that names nothing says what it may have meant."""

from __future__ import annotations

import pytest

from penchant.errors import UsageError
from penchant.models.names import match_all, matches

NAMES = [
    f"model.layers.{layer}.{part}" for layer in (2, 3, 20, 21) for part in ("mlp.up_proj", "self_attn.q_proj")
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("q_proj", [1, 3, 5, 7]),
        ("layers.2", [0, 1]),
        ("layers.2[0-9].mlp", [4, 6]),
        ("layers.2*.mlp", [0, 4, 6]),
        ("layers.?", [0, 1, 2, 3]),
        ("model.layers.21.self_attn.q_proj", [7]),
        ("*", list(range(8))),
    ],
)
def test_a_pattern_names_runs_of_whole_parts(pattern: str, expected: list[int]) -> None:
    assert match_all([pattern], NAMES, where="model.train", what="name") == [NAMES[place] for place in expected]


@pytest.mark.parametrize("pattern", ["proj", "layer", "q_proj.weight", "Q_proj", "layers.2.", "model.mlp"])
def test_parts_of_parts_name_nothing(pattern: str) -> None:
    """A dot is a dot, case counts, and `proj` is no part of its own."""
    assert not any(matches(pattern, name) for name in NAMES)


def test_several_patterns_keep_the_order_of_the_names() -> None:
    found = match_all(["layers.21", "q_proj", "layers.2.self_attn"], NAMES, where="model.train", what="name")
    assert found == [NAMES[place] for place in (1, 3, 5, 6, 7)]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [("q_prj", "q_proj"), ("model.layers.3.mpl", "model.layers.3.mlp"), ("self_atn", "self_attn")],
)
def test_a_pattern_that_names_nothing_is_an_error_with_the_nearest_name(pattern: str, meant: str) -> None:
    """Also when another pattern beside it does name something."""
    with pytest.raises(UsageError) as caught:
        match_all(["q_proj", pattern], NAMES, where="model.train", what="parameter")
    assert f'model.train: "{pattern}" names no parameter. Did you mean "{meant}"?' in str(caught.value)
