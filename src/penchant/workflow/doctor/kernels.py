"""A real micro-step on each attention and precision of this device: forward, backward, update, against its twin.

A small random model with layers as wide as the bundled one's is given four pairs. Packed rows with each kernel are
compared with whole padded sequences through transformers' own attention: loss, gradients, and the loss after the
update.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

from penchant.batching.pair_batch import Group
from penchant.config import build_config
from penchant.models.attention_check import KERNELS, tolerance
from penchant.models.precision import Precision, choose_device, choose_precision, compute_in
from penchant.models.sizes import random_model
from penchant.objective.logps import pair_logps
from penchant.objective.loss_table import pair_losses, pair_objective
from penchant.objective.pair_facts import PairFacts
from penchant.objective.pair_model import PairModel
from penchant.training.optimizer import make_optimizer
from penchant.workflow.doctor.finding import Finding

_GROUP = "micro-steps"
_VOCABULARY, _LAYERS = 2048, 2
_PROMPT, _RESPONSES = 64, ((24, 16), (12, 36), (20, 20), (30, 4))  # tokens
_SAME = 1e-5  # what fp32 alone would differ by


@dataclass(frozen=True)
class MicroStep:
    """What one micro-step came to.

    Attributes:
        loss: Mean over the pairs, before the update.
        gradients: Of every parameter, by name, on the CPU.
        loss_after: On the same pairs after one update.
        seconds: Of forward, backward and update, once everything is warm.
        tokens: Fed to one forward pass.
    """

    loss: float
    gradients: dict[str, Tensor]
    loss_after: float
    seconds: tuple[float, float, float]
    tokens: int


def kernels() -> Iterator[Finding]:
    """Yield a finding for every attention in every precision that this device has, and one on bf16 beside fp32."""
    device = choose_device("auto")
    names = ["sdpa", *KERNELS] if device.startswith("cuda") else ["sdpa"]
    model = small_model(device)
    steps: dict[tuple[str, Precision], MicroStep] = {}
    twins: dict[Precision, MicroStep] = {}
    for precision in precisions(device):
        for name in names:
            try:
                twin = twins.get(precision) or micro_step(model, "sdpa", precision, packed=False)
                step = micro_step(model, name, precision)
            except Exception as error:  # whatever a kernel raises where it is not supported
                said = " ".join(str(error).split())[:160]
                yield _wrong(model, name, precision, f"{type(error).__name__}: {said}")
            else:
                twins[precision], steps[name, precision] = twin, step
                yield kernel_finding(model, name, precision, step, twin)
    if ("sdpa", "bf16") in steps and ("sdpa", "fp32") in steps:
        yield rounding_finding(steps["sdpa", "bf16"], steps["sdpa", "fp32"])


def precisions(device: str) -> list[Precision]:
    """Return fp32, and bf16 where the device multiplies it in hardware."""
    return ["fp32"] if choose_precision("auto", device) == "fp32" else ["fp32", "bf16"]


def small_model(device: str) -> PreTrainedModel:
    """Return a random Llama of two layers, each as wide as those of the bundled model."""
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=_LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=512,
    )
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = random_model(config, device)
    torch.set_rng_state(state)
    return model


def kernel_finding(
    model: PreTrainedModel, kernel: str, precision: Precision, step: MicroStep, twin: MicroStep
) -> Finding:
    """Return whether a step of packed rows came to what padded sequences, its twin, came to, and how fast."""
    off, allowed = difference(step, twin), tolerance(torch.float32 if precision == "fp32" else torch.bfloat16)
    if not off <= allowed:  # so that nan is a failure
        what = f"off by {off:.1g} from separate sequences; {allowed:.1g} is allowed"
        return _wrong(model, kernel, precision, what)
    if not step.loss_after < step.loss:
        what = f"the loss does not fall by an update ({step.loss:.4f} -> {step.loss_after:.4f})"
        return _wrong(model, kernel, precision, what)
    forward, backward, update = (1000 * seconds for seconds in step.seconds)
    what = (
        f"agrees with separate sequences to {off:.0e}; forward {forward:.0f}, backward {backward:.0f}, "
        f"update {update:.0f} ms for {step.tokens} tokens"
    )
    return Finding(_GROUP, _name(model, kernel, precision), "ok", what)


def rounding_finding(bf16: MicroStep, fp32: MicroStep) -> Finding:
    """Return what bf16 gains and costs here, or that this processor computes it as fp32."""
    off, speed = difference(bf16, fp32), sum(fp32.seconds) / sum(bf16.seconds)
    if off < _SAME:
        what = "the same numbers: this build of torch computes bf16 products as fp32 here, and gains nothing"
    else:
        what = f"{speed:.1f} x the speed, gradients and loss differ by {off:.0e}"
    return Finding(_GROUP, "bf16 beside fp32", "ok", what)


def _wrong(model: PreTrainedModel, kernel: str, precision: Precision, what: str) -> Finding:
    """What to do without: another kernel; without SDPA in bf16 fp32; without that nothing that is known."""
    name = _name(model, kernel, precision)
    if kernel != "sdpa":
        return Finding(_GROUP, name, "warning", what, "none needed: engine.attention=auto passes it over")
    if precision != "fp32":
        return Finding(_GROUP, name, "warning", what, "--set engine.precision=fp32 in every command")
    remedy = "--set engine.prefix_sharing=false, and please report it with the lines of penchant doctor --block"
    return Finding(_GROUP, name, "error", what, remedy)


def _name(model: PreTrainedModel, kernel: str, precision: Precision) -> str:
    return f"{kernel} {precision} on {model.device.type}"


def difference(step: MicroStep, twin: MicroStep) -> float:
    """Return the largest relative difference of loss, loss after the update, and gradients (by their largest)."""
    of_gradients = [
        float((step.gradients[name] - other).abs().max() / other.abs().max().clamp(min=1e-12))
        for name, other in twin.gradients.items()
    ]
    of_losses = [abs(step.loss - twin.loss) / twin.loss, abs(step.loss_after - twin.loss_after) / twin.loss_after]
    return max(*of_gradients, *of_losses)


def micro_step(
    start: PreTrainedModel, kernel: str, precision: Precision, *, packed: bool = True, groups: Sequence[Group] = ()
) -> MicroStep:
    """Do a step of DPO on a copy of a model, whose start is the reference.

    Args:
        start: The model; it stays as it is.
        kernel: The attention of packed rows.
        precision: Of matrix products.
        packed: Whether prompts are shared; otherwise every response is a padded sequence of its own.
        groups: The pairs; by default four of random tokens.
    """
    policy: Any = copy.deepcopy(start).requires_grad_(True)
    model = PairModel(
        policy, trunk_layers=0, prefix_sharing=packed, precision=precision, pad_id=0, attention=kernel
    )
    batch = model.collate(list(groups) or random_groups())
    with torch.no_grad():
        reference = pair_logps(model(batch), batch)
    config = build_config({"train": {"learning_rate": 1e-4}})
    share = torch.full((len(batch.pairs),), 1 / len(batch.pairs), device=policy.device)
    objective = pair_objective(config.objective, reference, PairFacts(share))
    optimizer: Any = make_optimizer(config, model)
    optimizer.grad_scale, optimizer.found_inf = None, None

    began = _now(policy)
    if packed:  # the twin's time is not asked for
        with compute_in(precision, str(policy.device)):
            model.losses(batch, objective).total.backward()
        optimizer.zero_grad(set_to_none=True)
        began = _now(policy)
    total = model.losses(batch, objective).total
    after_forward = _now(policy)
    with compute_in(precision, str(policy.device)):
        total.backward()
    after_backward = _now(policy)
    gradients = {name: p.grad.cpu() for name, p in policy.named_parameters() if p.grad is not None}
    before_update = time.perf_counter()
    optimizer.step()
    seconds = (after_forward - began, after_backward - after_forward, _now(policy) - before_update)
    with torch.no_grad():
        after = pair_logps(model(batch), batch)
    loss_after = float(pair_losses(config.objective)(after, reference).mean())
    return MicroStep(float(total.detach()), gradients, loss_after, seconds, batch.num_tokens)


def random_groups() -> list[Group]:
    """Return four pairs of random tokens, responses of unequal length."""
    draw = torch.Generator().manual_seed(1)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, _VOCABULARY, (count,), generator=draw).tolist())

    return [Group(ids(_PROMPT), (ids(chosen), ids(rejected))) for chosen, rejected in _RESPONSES]


def _now(model: PreTrainedModel) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    elif model.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
