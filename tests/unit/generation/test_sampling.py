"""From scores to a token, by hand and by count."""

from __future__ import annotations

import pytest
import torch

from penchant.generation.sampling import GREEDY, Sampling, choose_tokens, uniforms

# Probabilities 0.5, 0.25, 0.15, 0.1 in the order of the ids 2, 0, 3, 1.
PROBABILITIES = torch.tensor([0.25, 0.1, 0.5, 0.15])
LOGITS = PROBABILITIES.log()[None] + 7.0


def chosen(uniform: float, **changes: float) -> int:
    sampling = Sampling(**{"temperature": 1.0, **changes})  # type: ignore[arg-type]
    return int(choose_tokens(LOGITS, sampling, torch.tensor([uniform]))[0])


def test_greedy_takes_the_likeliest() -> None:
    """Whatever the random number."""
    assert choose_tokens(LOGITS, GREEDY, torch.tensor([0.999])).tolist() == [2]


@pytest.mark.parametrize(
    ("uniform", "token"),
    [(0.0, 2), (0.49, 2), (0.51, 0), (0.74, 0), (0.76, 3), (0.89, 3), (0.91, 1), (0.999, 1)],
)
def test_the_cumulative_distribution_is_inverted(uniform: float, token: int) -> None:
    """Borders at 0.5, 0.75 and 0.9, likeliest first."""
    assert chosen(uniform) == token


@pytest.mark.parametrize(
    ("uniform", "top_k", "token"), [(0.66, 2, 2), (0.67, 2, 0), (0.999, 2, 0), (0.999, 1, 2), (0.999, 99, 1)]
)
def test_top_k_keeps_the_k_likeliest(uniform: float, top_k: int, token: int) -> None:
    """Of two: 2/3 and 1/3."""
    assert chosen(uniform, top_k=top_k) == token


@pytest.mark.parametrize(
    ("uniform", "top_p", "token"),
    [
        (0.999, 0.4, 2),  # the likeliest alone already holds more
        (0.999, 0.6, 0),  # 0.5 is not yet 0.6: two stay
        (0.66, 0.6, 2),
        (0.67, 0.6, 0),
        (0.999, 0.8, 3),
        (0.999, 0.001, 2),
        (0.999, 1.0, 1),
    ],
)
def test_top_p_keeps_the_fewest_that_hold_p(uniform: float, top_p: float, token: int) -> None:
    """The token that crosses the border stays."""
    assert chosen(uniform, top_p=top_p) == token


def test_temperature_divides_the_scores() -> None:
    """At one half probabilities are squared: of 0.25, 0.0625, 0.0225, 0.01 the first holds 0.7246."""
    assert chosen(0.72, temperature=0.5) == 2
    assert chosen(0.73, temperature=0.5) == 0


def test_a_number_close_to_one_chooses_an_allowed_token() -> None:
    """Rounding at the upper end never reaches a token that top_p excludes."""
    largest = torch.nextafter(torch.tensor([1.0]), torch.tensor([0.0]))
    torch.manual_seed(0)
    for _ in range(200):
        logits = torch.randn(1, 300) * 3
        sampling = Sampling(temperature=1.0, top_k=50, top_p=0.9)
        token = int(choose_tokens(logits, sampling, largest)[0])
        ordered, ids = torch.softmax(logits[0].topk(50).values, -1), logits[0].topk(50).indices
        kept = ids[: int((ordered.cumsum(-1) - ordered < 0.9).sum())]
        assert token in kept


def test_the_counts_follow_the_distribution() -> None:
    """Twenty thousand draws from a fixed seed: chi-square of three degrees of freedom (p = 0.001)."""
    draws = 20_000
    tokens = choose_tokens(LOGITS.expand(draws, -1), Sampling(temperature=1.0), uniforms(3, 0, draws))
    counts = torch.bincount(tokens, minlength=4).double()
    expected = draws * PROBABILITIES.double()
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3


def test_every_row_has_a_stream_of_its_own() -> None:
    """The same for the same (seed, row), as long as asked; others for another row or seed."""
    assert torch.equal(uniforms(1, 2, 5), uniforms(1, 2, 9)[:5])
    others = [uniforms(1, 2, 5), uniforms(1, 3, 5), uniforms(2, 2, 5), uniforms(2, 3, 5)]
    assert len({tuple(stream.tolist()) for stream in others}) == 4
    assert all(0 <= value < 1 for value in uniforms(0, 0, 1000).tolist())


def test_rows_are_chosen_apart() -> None:
    """Each row with its own scores and its own number."""
    logits = torch.stack([LOGITS[0], LOGITS[0].flip(0)])
    assert choose_tokens(logits, Sampling(temperature=1.0), torch.tensor([0.6, 0.2])).tolist() == [0, 1]
