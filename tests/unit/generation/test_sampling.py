"""From scores to a token, by hand and by count."""

from __future__ import annotations

import pytest
import torch

from penchant.errors import NotFiniteError, UsageError
from penchant.generation.sampling import GREEDY, choose_tokens, row_key, uniforms
from penchant.types import Sampling

# Probabilities 0.5, 0.25, 0.15, 0.1 in the order of the ids 2, 0, 3, 1.
PROBABILITIES = torch.tensor([0.25, 0.1, 0.5, 0.15])
LOGITS = PROBABILITIES.log()[None] + 7.0


def chosen(uniform: float, **changes: float) -> int:
    sampling = Sampling(**{"temperature": 1.0, "top_k": 50, **changes})  # type: ignore[arg-type]
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
    assert choose_tokens(logits, Sampling(temperature=1.0, top_k=4), torch.tensor([0.6, 0.2])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("uniform", "min_p", "token"),
    [
        (0.999, 0.0, 1),
        (0.999, 0.19, 1),
        (0.999, 0.21, 3),
        (0.999, 0.45, 0),
        (0.66, 0.45, 2),
        (0.67, 0.45, 0),
        (0.999, 1.0, 2),
    ],
)
def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest(uniform: float, min_p: float, token: int) -> None:
    """Beside 0.5 the others are 0.5, 0.3 and 0.2 as likely."""
    assert chosen(uniform, min_p=min_p) == token


def test_no_top_k_is_the_whole_vocabulary() -> None:
    logits = torch.zeros(1, 5000)
    found = choose_tokens(logits.expand(300, -1), Sampling(temperature=1.0), uniforms(0, 0, 300))
    assert len(set(found.tolist())) > 200
    few = choose_tokens(logits.expand(300, -1), Sampling(temperature=1.0, top_k=3), uniforms(0, 0, 300))
    assert len(set(few.tolist())) == 3


@pytest.mark.parametrize("temperature", [1e-6, 1e-40])
def test_a_very_small_temperature_is_greedy(temperature: float) -> None:
    assert chosen(0.999, temperature=temperature) == 2
    assert chosen(0.999, temperature=temperature, top_k=0) == 2
    assert chosen(0.999, temperature=temperature, top_k=0, top_p=0.99) == 2


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0), Sampling(temperature=1.0, top_k=2)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_no_numbers_are_an_error(sampling: Sampling, value: float) -> None:
    """A whole row of them, or a NaN anywhere; a single impossible token is none."""
    logits = LOGITS.repeat(2, 1)
    logits[1] = value
    with pytest.raises(NotFiniteError, match="not finite"):
        choose_tokens(logits, sampling, torch.tensor([0.5, 0.5]))
    logits = LOGITS.clone()
    logits[0, 1] = value
    if value == float("-inf"):
        assert int(choose_tokens(logits, sampling, torch.tensor([0.1]))[0]) in (0, 2)
    else:
        with pytest.raises(NotFiniteError):
            choose_tokens(logits, sampling, torch.tensor([0.1]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Sampling(**values)


def test_a_named_row_has_the_same_key_everywhere() -> None:
    """A function of name and sample alone, the same in every process: this one was computed once."""
    assert row_key("q1", 0) == 51999313085764311
    assert len({row_key(name, sample) for name in ("q1", "q2", "1 q1", "") for sample in range(9)}) == 36


def test_a_longer_stream_begins_like_a_shorter_one() -> None:
    assert torch.equal(uniforms(1, 2, 5000)[:300], uniforms(1, 2, 300))


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.24, 0), (0.26, 1), (0.36, 2), (0.84, 2), (0.86, 3)])
def test_the_whole_vocabulary_is_not_sorted(uniform: float, token: int) -> None:
    """Borders at 0.25, 0.35 and 0.85, in the order of the ids."""
    assert chosen(uniform, top_k=0) == token


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("top_p", [0.3, 0.95])
def test_top_p_of_the_whole_vocabulary_is_that_of_a_sorted_one(spread: float, top_p: float) -> None:
    """Also where many thousand tokens are needed to hold it, in some rows or in all."""
    torch.manual_seed(1)
    logits = torch.randn(60, 5000) * torch.linspace(spread, 3 * spread, 60).unsqueeze(-1)
    uniform = torch.rand(60)
    found, expected = (
        choose_tokens(logits, Sampling(temperature=1.0, top_p=top_p, top_k=top_k), uniform) for top_k in (0, 5000)
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("top_k", [0, 50])
def test_no_number_reaches_a_token_that_was_cut_off(top_k: int) -> None:
    """The largest number below 1, times what is kept, may round to all of it."""
    largest = torch.nextafter(torch.tensor([1.0]), torch.tensor([0.0]))
    for kept in torch.linspace(0.5, 0.5001, 300):
        probabilities = torch.stack([kept, (1 - kept) * 0.6, (1 - kept) * 0.4])
        sampling = Sampling(temperature=1.0, top_k=top_k, min_p=0.9)
        assert int(choose_tokens(probabilities.log()[None], sampling, largest)[0]) == 0
