"""The simulation of scale: it predicts what it has not seen, and its parts add up."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from typing import Any

import pytest
from scripts import scale_page, simulate_scale
from scripts.scale_costs import fit, predictions, read_measurements
from scripts.scale_devices import GPUS, gpu, measured_device, measured_host
from scripts.scale_model import Layout, Setup, best_interval, imbalance, memory_of, simulate
from scripts.scale_report import predict, read_lengths
from scripts.scale_work import (
    MODELS,
    PARTS,
    mean_tokens,
    model_of,
    pair_loads,
    reference_store_bytes,
    trunk_store_bytes,
)

LENGTHS = ((100, 50, 60), (300, 20, 30))


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return read_measurements()


def setup_of(parameters: float, devices: int, *, pairs: float = 61_000, part: str = "full", **more: Any) -> Setup:
    return Setup(model_of(parameters), part, read_lengths("ultrafeedback"), pairs, devices, gpu("h100"), **more)


def test_runs_that_had_no_part_in_the_calibration_are_predicted_within_a_quarter(found: dict[str, Any]) -> None:
    held_out = predictions(found, "held_out")
    within = {one.name for one in held_out if abs(one.error) <= 0.25}
    assert len(within) >= 3
    assert {one.name for one in held_out} - within == {"q"}  # docs/scale.md says so, and why


def test_those_held_out_differ_in_kind_and_are_not_fitted_on(found: dict[str, Any]) -> None:
    runs = found["runs"].values()
    calibration = [run for run in runs if run["set"] == "calibration"]
    held_out = [run for run in runs if run["set"] == "held_out"]
    for kind in ("shape", "mix", "part"):
        assert {run[kind] for run in held_out} - {run[kind] for run in calibration}, kind
    without = found | {"runs": {name: run for name, run in found["runs"].items() if run["set"] == "calibration"}}
    assert fit(without, "fp32") == fit(found, "fp32")


def test_a_machine_twice_as_slow_is_found_to_be_so(found: dict[str, Any]) -> None:
    slow = json.loads(json.dumps(found))
    slow["machine"]["optimizer_seconds_per_parameter"] *= 2
    for run in slow["runs"].values():
        for once in run["repeats"]:
            once["reference_seconds"] *= 2
            once["epoch_seconds"] *= 2
    load = pair_loads(MODELS[0], "full", LENGTHS).step
    assert fit(slow, "fp32").seconds(load) == pytest.approx(2 * fit(found, "fp32").seconds(load), rel=1e-6)


def test_the_page_says_what_the_script_computes(found: dict[str, Any]) -> None:
    """To write it anew: make scale."""
    written = scale_page.PAGE.read_text(encoding="utf-8")
    assert written == scale_page.rendered(written, found)
    with pytest.raises(ValueError, match="no place"):
        scale_page.rendered(written.replace("<!-- scale: sizes -->", ""), found)


def test_a_known_size_is_the_known_model_and_another_has_other_layers() -> None:
    assert [model_of(model.parameters) for model in MODELS] == list(MODELS)
    assert model_of(135e6).name == "SmolLM2-135M"
    assert model_of(70.6e9).parameters == pytest.approx(70.6e9, rel=0.01)
    odd = model_of(50e9)
    assert odd.parameters == pytest.approx(50e9, rel=0.02)
    assert odd not in MODELS


def test_work_is_the_sum_of_frozen_and_upper_layers() -> None:
    model = MODELS[3]
    full, last5, lora = (pair_loads(model, part, LENGTHS) for part in PARTS)
    assert full.trunk.layers == 0
    assert last5.trunk.layers + last5.again.layers == pytest.approx(last5.reference.layers)
    assert last5.step.layers < full.step.layers
    assert full.reference == last5.reference == lora.reference
    assert lora.step.layers < full.step.layers  # gradients of frozen weights are not made
    assert full.step.layers > 2.9 * full.again.layers


def test_stores_hold_what_the_engine_writes(found: dict[str, Any]) -> None:
    run = next(run for run in found["runs"].values() if run["repeats"][0]["trunk_store_bytes"])
    lengths = tuple(map(tuple, run["lengths"]))
    model = next(model for model in MODELS if model.name == run["shape"])
    written = run["repeats"][0]
    assert len(lengths) * trunk_store_bytes(model, lengths) == pytest.approx(
        written["trunk_store_bytes"], rel=0.01
    )
    assert reference_store_bytes(lengths, len(lengths)) == pytest.approx(
        written["reference_store_bytes"], rel=0.01
    )


def test_more_devices_take_no_longer_to_compute_and_one_never_waits_for_another(found: dict[str, Any]) -> None:
    host = measured_host(found, gpu_node=True)
    runs = [simulate(setup_of(1.7e9, count, batch=1024), host) for count in (1, 8, 64, 512)]
    compute = [run.seconds["compute"] for run in runs]
    assert compute == sorted(compute, reverse=True)
    assert compute[0] / compute[1] == pytest.approx(8, rel=0.4)  # activation checkpointing may differ
    assert runs[0].seconds["waiting for the slowest rank"] == runs[0].seconds["links"] == 0
    assert runs[0].seconds["tokenising"] == runs[-1].seconds["tokenising"]


def test_devices_without_a_pair_of_their_own_do_not_help(found: dict[str, Any]) -> None:
    host = measured_host(found, gpu_node=True)
    few, many = (simulate(setup_of(1.7e9, count, batch=64), host) for count in (64, 512))
    assert few.seconds == many.seconds


def test_memory_is_divided_among_shards_and_checkpointing_keeps_less() -> None:
    setup = setup_of(8e9, 8)
    whole, shared = (memory_of(setup, Layout("", shards, False, 4096)) for shards in (1, 8))
    for part in ("weights", "gradients", "moments"):
        assert whole[part] == pytest.approx(8 * shared[part])
    assert whole["weights"] + whole["gradients"] + whole["moments"] == 16 * setup.model.parameters
    again = memory_of(setup, Layout("", 8, True, 4096))
    assert again["activations"] < shared["activations"] / 5
    assert {name for name in again if again[name] != shared[name]} == {"activations"}


def test_what_does_not_fit_is_said_to_be_too_large(found: dict[str, Any]) -> None:
    host = measured_host(found, gpu_node=True)
    outcome = simulate(setup_of(70.6e9, 1), host)
    assert outcome.layout is None
    assert outcome.total == math.inf
    assert sum(outcome.memory.values()) > 80e9
    facts = predict(setup_of(70.6e9, 1), "h100", found)
    assert not facts["fits"]
    assert any("adapters" in one for one in facts["advice"])
    fitting = simulate(setup_of(70.6e9, 256), host)
    assert fitting.layout is not None
    assert sum(fitting.memory.values()) <= 80e9


def test_the_range_of_the_assumptions_holds_the_middle(found: dict[str, Any]) -> None:
    facts = predict(setup_of(8e9, 64, price=2), "h100", found)
    low, high = facts["seconds_range"]
    assert low < facts["seconds"] < high
    assert facts["cost"] == pytest.approx(facts["seconds"] / 3600 * 64 * 2)
    assert sum(facts["seconds_parts"].values()) == pytest.approx(facts["seconds"])


def test_one_process_that_reads_rows_limits_many_gpus(found: dict[str, Any]) -> None:
    host = measured_host(found, gpu_node=True)
    assert simulate(setup_of(135e6, 1), host).ranked()[0][0] == "compute"
    assert simulate(setup_of(135e6, 1024, pairs=1e8), host).ranked()[0][0] in {"tokenising", "opening the store"}


def test_the_slowest_rank_loses_less_with_more_pairs_and_nothing_alone() -> None:
    lengths = read_lengths("ultrafeedback")
    assert imbalance(lengths, 1, 1) == 0
    found = [imbalance(lengths, 64, each) for each in (1, 2, 4, 16)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 1
    assert found[-1] < 0.1
    assert imbalance(((10, 5, 5),) * 4, 64, 1) == pytest.approx(0)


def test_a_ring_moves_nearly_everything_once_and_slower_beyond_a_node() -> None:
    device = replace(gpu("h100"), latency=0.0)
    assert device.ring(1e9, 1, 1) == 0
    assert device.ring(1e9, 8, 1) == pytest.approx(7 / 8 * 1e9 / device.link)
    assert device.ring(1e9, 1024, 1) > device.ring(1e9, 8, 1)
    assert device.across(1e9, 2) == pytest.approx(0.5e9 / device.network)


def test_checkpoints_are_rarer_when_they_are_dear_and_more_frequent_on_many_devices() -> None:
    setup = setup_of(8e9, 64)
    assert best_interval(setup, 4.0) == pytest.approx(2 * best_interval(setup, 1.0))
    assert best_interval(replace(setup, devices=256), 1.0) == pytest.approx(best_interval(setup, 1.0) / 2)


def test_the_measured_machine_predicts_a_run_on_itself(found: dict[str, Any]) -> None:
    run = found["runs"]["a"]
    lengths = tuple(map(tuple, run["lengths"]))
    device, host = measured_device(found, "fp32"), measured_host(found, gpu_node=False)
    setup = Setup(MODELS[0], "last5", lengths, len(lengths), 1, device, batch=run["batch"])
    seconds = simulate(setup, host).seconds
    measured = min(once["reference_seconds"] + once["epoch_seconds"] for once in run["repeats"])
    said = sum(seconds[name] for name in ("reference pass", "compute", "starting kernels", "optimizer"))
    assert said == pytest.approx(measured, rel=0.25)


def test_the_command_line_says_time_memory_cost_and_what_limits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "--parameters 1.7e9 --pairs 61000 --gpus 8 --gpu h100 --price 2.5"
    monkeypatch.setattr(sys, "argv", ["simulate_scale.py", *line.split()])
    simulate_scale.main()
    said = capsys.readouterr().out
    for word in ("time ", "memory ", "cost ", "limited by", "reference store", "assumed efficiency", "to change"):
        assert word in said
    monkeypatch.setattr(sys, "argv", ["simulate_scale.py", "--gpus", "0"])
    with pytest.raises(SystemExit):
        simulate_scale.main()
    assert "--gpus is a number above zero" in capsys.readouterr().err


def test_every_data_sheet_is_faster_than_the_measured_processor(found: dict[str, Any]) -> None:
    slow = measured_device(found, "bf16").rates.layer_operation
    assert all(gpu(name).rates.layer_operation < slow / 10 for name in GPUS)


def test_longer_pairs_take_more_of_everything() -> None:
    short, long = read_lengths("hh_rlhf"), read_lengths("ultrafeedback")
    assert mean_tokens(long) > 2 * mean_tokens(short)
    assert reference_store_bytes(long, 1000) > reference_store_bytes(short, 1000)
    assert pair_loads(MODELS[0], "full", long).step.layers > 2 * pair_loads(MODELS[0], "full", short).step.layers
