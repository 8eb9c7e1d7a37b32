"""Our losses and TRL's, on two models that differ: equal where TRL is right, and by how much not where it is not.

TRL's numbers lie in tests/golden/trl_losses.json; the last test proves that they are TRL's where it is installed.
docs/losses-and-trl.md is the table of what is shown here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
from typing import Any, cast

import pytest
import torch
from tests.oracles.trl_cases import CASES, DIFFERENT, EQUAL, GOLDEN, LIKELY, MOVING, NAMED, PAIRS, examples
from tests.oracles.two_models import Step, models, one_step, scores
from tests.tiny import pair_model, tiny_config

from penchant.batching.pair_batch import pair_group
from penchant.models.freeze import choose_trainable
from penchant.objective import losses
from penchant.objective.head import PairObjective
from penchant.objective.logps import pair_logps
from penchant.objective.moving_reference import MovingReference
from penchant.objective.trunk_cache import TrunkCache
from penchant.training.loop import train
from penchant.training.optimizer import make_optimizer
from penchant.training.step import Trainer

LOSS, GRADIENT = 1e-5, 1e-4  # relative, fp32
SOME_TOKENS = 40  # so that a step of ours is several micro-batches, which TRL's are not
GOLD: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))


def theirs(name: str) -> dict[str, Any]:
    return GOLD["cases"][name]


def ours(name: str) -> Step:
    case = CASES[name]
    return one_step(case.ours, examples(case), tokens=SOME_TOKENS)


def assert_equal(loss: float, gradients: dict[str, torch.Tensor], expected: dict[str, Any]) -> None:
    """Loss, the norm of all gradients, and one weight's gradient as a share of its largest number."""
    assert loss == pytest.approx(expected["loss"], rel=LOSS)
    norm = torch.nn.utils.get_total_norm(list(gradients.values()))
    assert float(norm) == pytest.approx(expected["grad_norm"], rel=GRADIENT)
    wanted = torch.tensor(expected["gradient"])
    assert float((gradients[NAMED].flatten() - wanted).abs().max() / wanted.abs().max()) <= GRADIENT


def combined(parts: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """A weighted sum of what TRL measured; a norm is no sum."""
    gradients = torch.tensor([part["gradient"] for _, part in parts])
    weights = torch.tensor([weight for weight, _ in parts])
    return {
        "loss": sum(weight * part["loss"] for weight, part in parts),
        "gradient": (weights[:, None] * gradients).sum(0).tolist(),
    }


def assert_loss_and_gradient(step: Step, expected: dict[str, Any]) -> None:
    assert step.metrics["loss"] == pytest.approx(expected["loss"], rel=LOSS)
    found, wanted = step.gradients[NAMED].flatten(), torch.tensor(expected["gradient"])
    assert float((found - wanted).abs().max() / wanted.abs().max()) <= GRADIENT


def test_log_probabilities_are_trls() -> None:
    """Of every response under either model, to 1e-5; and the two models differ by far more than that."""
    for name, model in zip(("policy", "reference"), models(), strict=True):
        found = scores(model, PAIRS)
        assert found.chosen.tolist() == pytest.approx(GOLD["logps"][f"{name} chosen"], rel=LOSS)
        assert found.rejected.tolist() == pytest.approx(GOLD["logps"][f"{name} rejected"], rel=LOSS)
    apart = torch.tensor(GOLD["logps"]["policy chosen"]) - torch.tensor(GOLD["logps"]["reference chosen"])
    assert float(apart.abs().mean()) > 0.5


@pytest.mark.parametrize("name", EQUAL)
def test_a_loss_and_its_gradient_are_trls(name: str) -> None:
    """In several micro-batches of ours, against one of TRL's (or for terms per token against one a pair)."""
    step = ours(name)
    assert len(step.micro_batches) > 2
    assert_equal(step.metrics["loss"], step.gradients, theirs(name))
    assert step.metrics["grad_norm"] == pytest.approx(theirs(name)["grad_norm"], rel=GRADIENT)


def test_no_two_cases_are_one_number() -> None:
    """Each option moves the loss, so that none of the equalities above holds for another's sake."""
    values = sorted(theirs(name)["loss"] for name in EQUAL)
    # KTO's and others' may come near each other by chance, but not to five digits
    assert min(b - a for a, b in itertools.pairwise(values)) > 1e-4


def test_trl_ignores_label_smoothing_of_dpo_and_we_mix_the_labels() -> None:
    """Ours is (1 - e) of TRL's loss of the pairs and e of its loss of the swapped pairs: Mitchell 2023, Eq. 3."""
    assert theirs("sigmoid, smoothed") == theirs("sigmoid")
    assert_loss_and_gradient(
        ours("sigmoid, smoothed"),
        combined([(0.7, theirs("sigmoid")), (0.3, theirs("sigmoid, swapped"))]),
    )


def test_trls_bco_is_ours_without_the_shift() -> None:
    """TRL's pairwise BCO lacks the reward shift of arXiv:2404.04656, Sec. 4; everything else is the same."""
    policy, reference = models()
    choose_trainable(policy, None)
    of = CASES["bco_pair"].pairs
    scorer, known = pair_model(policy), scores(reference, of)
    without_shift = PairObjective(
        lambda own, places: losses.bco(own, known.select(places), beta=0.5, shift=0.0),
        torch.full((len(of),), 1 / len(of)),
    )
    result = scorer.losses(scorer.collate([pair_group(pair) for pair in of]), without_shift)
    result.total.backward()
    gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    assert_equal(float(result.total.detach()), gradients, theirs("bco_pair"))
    with_shift = ours("bco_pair")
    assert with_shift.metrics["loss"] != pytest.approx(theirs("bco_pair")["loss"], rel=1e-3)


def test_ktos_divergence_is_not_nothing() -> None:
    """At 0, where a negative estimate is cut, the equality above would not show how it is made."""
    own, known = (scores(model, examples(CASES["KTO"])).rejected for model in models())
    assert float((own - known).mean()) > 0.05


@pytest.mark.parametrize(
    ("together", "apart"),
    [
        ("sigmoid + sft, together", "sigmoid + sft, pair by pair"),
        ("CPO, together", "CPO, pair by pair"),
        ("aot", "aot, pair by pair"),
    ],
)
def test_trls_number_depends_on_its_micro_batches_and_ours_does_not(together: str, apart: str) -> None:
    """The likelihood is a mean over a micro-batch's tokens, AOT sorts within it; ours is one of the two always."""
    assert theirs(together)["loss"] != pytest.approx(theirs(apart)["loss"], rel=1e-4)
    mine = [one_step(CASES[together].ours, PAIRS, tokens=tokens) for tokens in (1, SOME_TOKENS, 1 << 20)]
    assert [step.metrics["loss"] for step in mine] == pytest.approx([mine[0].metrics["loss"]] * 3, rel=1e-6)
    equal = together if together in EQUAL else apart
    assert mine[0].metrics["loss"] == pytest.approx(theirs(equal)["loss"], rel=LOSS)


def test_trls_orpo_differs_by_the_likelihood_alone() -> None:
    """Between two weights of the odds ratio it cancels; TRL's runs over the prompt too, and is pooled by token."""
    small, large = ours("ORPO"), ours("ORPO, 0.5")
    expected = combined([(1.0, theirs("ORPO, 0.5")), (-1.0, theirs("ORPO"))])
    odds = Step(
        {"loss": large.metrics["loss"] - small.metrics["loss"]},
        {NAMED: large.gradients[NAMED] - small.gradients[NAMED]},
        [],
    )
    assert_loss_and_gradient(odds, expected)
    assert small.metrics["loss"] != pytest.approx(theirs("ORPO")["loss"], rel=1e-3)


def test_trls_wpo_weight_may_exceed_one_and_ours_is_cut_there() -> None:
    """As the authors' code has it; TRL's loss is ours times the weight that both compute."""
    policy, _ = models()
    scorer = pair_model(policy)
    batch = scorer.collate([pair_group(LIKELY)])
    agreement = pair_logps(scorer.agreement(batch), batch).mean()
    weight = float((agreement.chosen + agreement.rejected).exp())
    assert weight > 1.2
    step = ours("sigmoid, WPO, likely")
    assert_loss_and_gradient(step, combined([(1 / weight, theirs("sigmoid, WPO, likely"))]))


def test_a_moving_reference_is_trls() -> None:
    """Five steps of TR-DPO in whole runs of both trainers, the reference moved after the second and the fourth."""
    config = tiny_config(
        "tiny",
        objective={"beta": MOVING["beta"]},
        train={
            "batch_pairs": len(PAIRS),
            "max_steps": MOVING["steps"],
            "epochs": float(MOVING["steps"]),
            "learning_rate": MOVING["learning_rate"],
            "schedule": "constant",
            "warmup_steps": 0,
            "adam_beta2": 0.999,
            "clip_norm": None,
        },
        engine={"micro_batch_tokens": SOME_TOKENS},
    )
    model = models()[1]
    choose_trainable(model, None)
    scorer = pair_model(model)
    optimizer = make_optimizer(config, scorer)
    for group in optimizer.param_groups:
        group["eps"] = MOVING["epsilon"]
    moving = MovingReference(scorer, share=cast(float, MOVING["share"]), every=cast(int, MOVING["every"]))
    found: list[float] = []
    trainer = Trainer(config, scorer, PAIRS, None, optimizer, TrunkCache(0), moving=moving)
    train(trainer, lambda _, line: found.append(line["loss"]))
    assert found == pytest.approx(GOLD["moving reference"], rel=1e-4)
    assert found[2] > found[1]  # by then the reference had come nearer, and the margin is less


def test_every_case_was_measured() -> None:
    assert GOLD["cases"].keys() == CASES.keys()
    assert not EQUAL.keys() & DIFFERENT.keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TRL and its dependencies
def test_the_committed_numbers_are_trls() -> None:
    """All of them again, live: needs the very version of TRL, which `make bench` installs."""
    pytest.importorskip("trl")
    if importlib.metadata.version("trl") != GOLD["circumstances"]["trl"]:
        # another version may rightly give other numbers; the committed ones are compared with ours in every run
        pytest.skip(f"the numbers are TRL {GOLD['circumstances']['trl']}'s")
    live: Any = importlib.import_module("tests.golden.make_trl_losses")
    found = live.everything()
    for name, values in GOLD["logps"].items():
        assert found["logps"][name] == pytest.approx(values, rel=LOSS)
    for name, expected in GOLD["cases"].items():
        gradients = found["cases"][name]
        assert gradients["loss"] == pytest.approx(expected["loss"], rel=LOSS), name
        assert gradients["grad_norm"] == pytest.approx(expected["grad_norm"], rel=GRADIENT), name
        most = max(map(abs, expected["gradient"]))
        assert gradients["gradient"] == pytest.approx(expected["gradient"], abs=GRADIENT * most), name
    assert found["moving reference"] == pytest.approx(GOLD["moving reference"], rel=1e-4)
