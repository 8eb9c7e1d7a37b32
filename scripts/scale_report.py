"""A prediction as plain figures and as lines for a person: what takes long, and what to do about it."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scripts.scale_devices import MEASURED, Device, Host, gpu, measured_device, measured_host
from scripts.scale_model import Outcome, Setup, best_interval, checkpoint_seconds, simulate
from scripts.scale_work import Lengths

LENGTHS_FILE = Path(__file__).with_name("scale_lengths.json")
CPUS = ("cpu-fp32", "cpu-bf16")

# What to do about a part of the time that is large.
ADVICE = {
    "compute": "More or faster devices; train the last layers or adapters instead of everything.",
    "reference pass": "Scored once: further runs on these pairs find it in the store.",
    "frozen layers again": "Train for fewer epochs, or keep the frozen layers' outputs on disks, by content key.",
    "waiting for the slowest rank": "More pairs a step and device: a larger train.batch_pairs, fewer devices.",
    "links": "FSDP2 within a node and copies between nodes (HSDP); fewer, larger micro-batches; adapters.",
    "starting kernels": "Larger engine.micro_batch_tokens; engine.compile; a larger step.",
    "optimizer": "Shard it (FSDP2); train fewer parameters; larger steps, so that there are fewer.",
    "tokenising": "Tokenise on a machine without GPUs, several files at once; the tokens are kept for later runs.",
    "opening the store": "Split the pairs into shards by content key, one a rank.",
    "reading the store": "Put the store on the nodes' own disks.",
    "checkpoints": "Less often, see the interval; adapters or last layers make them smaller.",
    "saving the model": "Only once; a faster disk.",
}


def read_lengths(name: str) -> Lengths:
    """Return the quantiles of a data set's lengths, each a pair's prompt, chosen and rejected tokens."""
    found = json.loads(LENGTHS_FILE.read_text(encoding="utf-8"))
    return tuple((prompt, chosen, rejected) for prompt, chosen, rejected in found[name]["quantiles"])


def describe(setup: Setup, host: Host, bounds: tuple[Outcome, Outcome] | None = None) -> dict[str, Any]:
    """Return the prediction of a run as plain figures.

    Args:
        setup: The run.
        host: The processors and disks beside its devices.
        bounds: The same run with the high and with the low efficiencies.
    """
    outcome = simulate(setup, host)
    facts: dict[str, Any] = {
        "model": setup.model.name,
        "parameters": setup.model.parameters,
        "trained_parameters": setup.model.trained(setup.part),
        "basis": setup.device.basis,
        "pairs_a_step": setup.pairs_a_step,
        "steps": outcome.steps,
        "fits": outcome.layout is not None,
        "memory_bytes": sum(outcome.memory.values()),
        "memory_parts": dict(outcome.memory),
        "reference_store_bytes": outcome.reference_store,
        "trunk_store_bytes": outcome.trunk_store,
        "keys_in_memory_bytes_per_node": outcome.host_memory,
        "checkpoint_bytes": outcome.checkpoint,
    }
    if outcome.layout is None:
        return facts | {"advice": advice_when_too_large(setup)}
    seconds = checkpoint_seconds(setup, host)
    first, second = outcome.ranked()[:2]
    return facts | {
        "layout": asdict(outcome.layout),
        "seconds": outcome.total,
        "seconds_range": [one.total for one in bounds] if bounds else None,
        "seconds_parts": dict(outcome.seconds),
        "cost": outcome.cost,
        "cost_range": [one.cost for one in bounds] if bounds else None,
        "checkpoint_seconds": seconds,
        "checkpoint_best_interval_seconds": best_interval(setup, seconds),
        "bottleneck": {"first": first[0], "share": first[1], "next": second[0], "next_share": second[1]},
        "advice": [ADVICE[name] for name, share in outcome.ranked()[:2] if share > 0.05],
    }


def advice_when_too_large(setup: Setup) -> list[str]:
    """Return what helps when not even one pair fits."""
    advice = ["More devices, so that each holds a smaller share."]
    if setup.part == "full":
        advice.append("Train adapters (model.lora_rank) or the last layers (model.last_layers).")
    return [*advice, "Devices with more memory; CPU offload of the moments."]


def predict(setup: Setup, name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return what `describe` says, with a range where efficiencies are assumed."""
    device, host = device_of(name, found)
    setup = replace(setup, device=device)
    if device.basis == MEASURED:
        return describe(setup, host)
    low, high = (simulate(replace(setup, device=gpu(name, level)), host) for level in ("high", "low"))
    return describe(setup, host, (low, high))


def device_of(name: str, found: dict[str, Any], level: str = "middle") -> tuple[Device, Host]:
    """Return a device by its name and what stands beside it.

    Args:
        name: One of `GPUS` or `CPUS`.
        found: The measurements.
        level: One of `scale_devices.EFFICIENCIES`.
    """
    if name in CPUS:
        return measured_device(found, name.removeprefix("cpu-")), measured_host(found, gpu_node=False)
    return gpu(name, level), measured_host(found, gpu_node=True)


def in_words(facts: dict[str, Any], options: argparse.Namespace) -> str:
    """Return the prediction as lines for a person."""
    lines = [
        f"{facts['model']}, {options.part}, {facts['trained_parameters'] / 1e6:,.0f} of "
        f"{facts['parameters'] / 1e6:,.0f} million parameters trained",
        f"{options.pairs:,.0f} pairs like {options.lengths}, {options.epochs:g} epochs, "
        f"{facts['pairs_a_step']} pairs a step, {facts['steps']:,} steps, {options.gpus} x {options.gpu}",
        f"basis        {facts['basis']}",
    ]
    if not facts["fits"]:
        lines.append(f"does not fit {amount(facts['memory_bytes'])} needed on each device")
    else:
        layout = facts["layout"]
        extra = ", activation checkpointing" if layout["checkpointing"] else ""
        lines += [
            f"layout       {layout['name']}, micro-batches of {layout['tokens']} tokens{extra}",
            f"time         {duration(facts['seconds'])}{_range(facts['seconds_range'], duration)}",
            f"memory       {amount(facts['memory_bytes'])} on each device",
            f"cost         {facts['cost']:,.2f}{_range(facts['cost_range'], '{:,.2f}'.format)} "
            f"at {options.price:g} a device and hour",
            f"checkpoint   {amount(facts['checkpoint_bytes'])} in {duration(facts['checkpoint_seconds'])}; "
            f"least is lost with one every {duration(facts['checkpoint_best_interval_seconds'])}",
        ]
        most = facts["bottleneck"]
        lines.append(
            f"limited by   {most['first']} ({most['share']:.0%}), then {most['next']} ({most['next_share']:.0%})"
        )
    trunk = f"; frozen layers' outputs {amount(facts['trunk_store_bytes'])}" if facts["trunk_store_bytes"] else ""
    lines.append(f"disk         reference store {amount(facts['reference_store_bytes'])}{trunk}")
    return "\n".join([*lines, *(f"to change    {one}" for one in facts["advice"])])


def _range(bounds: list[float] | None, form: Any) -> str:
    return f" ({form(bounds[0])} to {form(bounds[1])})" if bounds else ""


def duration(seconds: float) -> str:
    """Return seconds in words, two or three digits."""
    if not math.isfinite(seconds):
        return "never"
    for size, unit in ((86_400 * 2, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:.3g} {unit}"
    return f"{seconds:.2g} s"


def amount(size: float) -> str:
    """Return bytes in words, three digits, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} PB"
