"""The tables and pictures of docs/scale.md, made from the measurements and the model alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from bench.flops import useful
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scripts.scale_costs import lengths_of_run, link_costs, model_of_run, predictions
from scripts.scale_devices import EFFICIENCIES, gpu, measured_device, measured_host
from scripts.scale_model import (
    Outcome,
    Setup,
    best_interval,
    checkpoint_bytes,
    checkpoint_seconds,
    imbalance,
    simulate,
)
from scripts.scale_report import amount, duration, read_lengths
from scripts.scale_work import (
    MODELS,
    SHARD_PAIRS,
    Load,
    Model,
    mean_tokens,
    model_of,
    pair_loads,
    reference_store_bytes,
    trunk_store_bytes,
)

from penchant.reporting.charts import COLOURS, DASHES
from penchant.types import TokenizedPair

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "scale.md"
PRICE = 2.5
DISK = 3.84e12  # bytes of a common NVMe disk
_TOLERANCE = 0.25
_GPU_COUNTS = (1, 8, 64, 256, 1024)
_PAIR_COUNTS = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
# Llama 3.1 8B, 8,192 tokens a sequence, FSDP, no compile: tokens a second and GPU, as torchtitan published them
# (benchmarks/llama3_h100_202412_torchtitan.md, December 2024)
_PUBLISHED = {8: 5762, 128: 5605}

Found = dict[str, Any]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; every column but the first is a number's."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def prediction_table(found: Found, which: str) -> str:
    """Return measured and predicted seconds of a set of runs."""
    rows = [
        (one.what, f"{one.measured:.2f}", f"{one.predicted:.2f}", f"{one.error:+.0%}")
        for one in predictions(found, which)
    ]
    return table(("run", "measured, s", "predicted, s", "error"), rows)


def other_checks(found: Found) -> str:
    """Return predictions of what is no training run: bytes, an all-reduce, a checkpoint."""
    rows = []
    for name, run in sorted(found["runs"].items()):
        if run["set"] == "calibration":
            continue
        lengths, model = lengths_of_run(run), model_of_run(run)
        once = run["repeats"][0]
        predicted = reference_store_bytes(lengths, len(lengths))
        rows.append((f"run {name}: reference store", once["reference_store_bytes"], predicted, amount))
        if once["trunk_store_bytes"]:
            predicted = len(lengths) * trunk_store_bytes(model, lengths)
            rows.append((f"run {name}: frozen layers' outputs", once["trunk_store_bytes"], predicted, amount))
    machine = found["machine"]
    start, rate = link_costs(found)
    for one in sorted(machine["all_reduce"], key=lambda one: one["bytes"])[1:-1]:
        what = f"all-reduce of {amount(one['bytes'])}, two processes"
        rows.append((what, one["seconds"], start + one["bytes"] / rate, duration))
    size = 12 * machine["checkpoint_parameters"]
    host = measured_host(found, gpu_node=False)
    predicted = size / host.write + size / host.hashed
    rows.append((f"checkpoint of {amount(size)}", machine["checkpoint_seconds"], predicted, duration))
    return table(
        ("what", "measured", "predicted", "error"),
        [(what, form(one), form(other), f"{other / one - 1:+.0%}") for what, one, other, form in rows],
    )


def unit_table(found: Found) -> str:
    """Return what a unit of work costs, here and on GPUs, and on what that rests."""
    rows = []
    for device in (measured_device(found, "fp32"), measured_device(found, "bf16"), gpu("h100"), gpu("h200")):
        rates = device.rates
        rows.append(
            (
                device.name,
                *(_flops(one) for one in (rates.layer_operation, rates.head_operation)),
                f"{1e12 * rates.element:.3g}",
                f"{1e6 * rates.call:.3g}",
                f"{1e12 * rates.update:.3g}",
                f"{device.link / 1e9:.3g}",
                device.basis,
            )
        )
    header = (
        "device",
        "layers, TFLOP/s",
        "head, TFLOP/s",
        "element, ps",
        "layer call, us",
        "update, ps",
        "link, GB/s",
    )
    return table((*header, "basis"), rows)


def _flops(seconds: float) -> str:
    return f"{1e-12 / seconds:.3g}" if seconds else "free"


def host_table(found: Found) -> str:
    """Return what one process does for a pair or a byte, as measured."""
    host, machine = measured_host(found, gpu_node=False), found["machine"]
    rows = (
        ("reading a pair", f"{1e6 * host.read_pair:.0f} us"),
        (
            f"tokenising a pair of {machine['tokenising_tokens_per_pair']:.0f} tokens",
            f"{1e6 * machine['tokenising_seconds_per_pair']:.0f} us",
        ),
        ("opening a full store, a pair", f"{1e6 * host.opening:.0f} us"),
        ("a pair's key in memory", f"{host.key_bytes:.0f} B"),
        ("writing to disk, flushed", f"{amount(host.write)}/s"),
        ("reading from disk", f"{amount(host.read)}/s"),
        ("SHA-256", f"{amount(host.hashed)}/s"),
        ("CRC-32", f"{amount(machine['crc32_bytes_per_second'])}/s"),
    )
    return table(("one process, one core", "measured"), rows)


def efficiency_table() -> str:
    """Return what is assumed of GPUs."""
    names = ("products", "head", "memory", "links", "overlap", "call")
    rows = [(level, *(f"{getattr(one, name):g}" for name in names)) for level, one in EFFICIENCIES.items()]
    return table(
        ("assumed", "peak, layers", "peak, head", "memory bandwidth", "links", "overlap", "layer call, s"), rows
    )


def public_check() -> str:
    """Return published rates of pre-training beside what the model says of them without any recomputation."""
    model = next(one for one in MODELS if one.name == "Llama-3.1-8B")
    row = TokenizedPair("", (0,), (1,) * 8191, ())
    _, epoch = useful([row], model.sizes, "full")
    elements = pair_loads(model, "full", ((1, 8191, 1),)).step.elements
    rows = []
    for count, published in _PUBLISHED.items():
        said = [
            _training_rate(Load(epoch.layers, epoch.head, elements), model, count, level)
            for level in ("low", "middle", "high")
        ]
        rows.append(
            (str(count), f"{published:,}", *(f"{one:,.0f}" for one in said), f"{said[1] / published - 1:+.0%}")
        )
    return table(("H100s", "published, tokens/s and GPU", "low", "middle", "high", "middle's error"), rows)


def _training_rate(load: Load, model: Model, count: int, level: str) -> float:
    """Tokens a second and GPU of FSDP over all of them, two sequences of 8,192 tokens each a step."""
    device, sequences = gpu("h100", level), 2
    compute = sequences * device.rates.seconds(load)
    gather = device.ring(2 * model.parameters, count, model.sizes.layers)
    reduce = device.ring(4 * model.parameters, count, model.sizes.layers)
    links = max(0.0, 2 * gather + reduce - device.overlap * compute)
    return sequences * 8192 / (compute + links + device.rates.update * model.parameters / count)


def _outcomes(setup: Setup, found: Found, name: str = "h100") -> tuple[Outcome, Outcome, Outcome]:
    """With the high, the middle and the low efficiencies."""
    host = measured_host(found, gpu_node=True)
    high, middle, low = (
        simulate(replace(setup, device=gpu(name, level)), host) for level in ("high", "middle", "low")
    )
    return high, middle, low


def _row(what: Sequence[str], setup: Setup, found: Found, name: str = "h100") -> Sequence[str]:
    high, middle, low = _outcomes(setup, found, name)
    if middle.layout is None:
        return (*what, "-", f"{amount(sum(middle.memory.values()))}: too much", "-", "-", "-")
    layout = middle.layout
    (first, share), (second, next_share), *_ = middle.ranked()
    return (
        *what,
        layout.name + (", checkpointing" if layout.checkpointing else ""),
        amount(sum(middle.memory.values())),
        f"{duration(middle.total)} ({duration(high.total)} to {duration(low.total)})",
        f"{middle.cost:,.0f}" if middle.cost >= 10 else f"{middle.cost:.2f}",
        f"{first} {share:.0%}, {second} {next_share:.0%}",
    )


_COLUMNS = ("layout", "memory a GPU", "time (range)", "cost", "limited by")


def size_table(found: Found) -> str:
    """Return one epoch of 61,000 pairs for all sizes and numbers of H100s, everything trained."""
    lengths = read_lengths("ultrafeedback")
    rows = [
        _row((name, str(count)), _setup(model_of(size), lengths, 61_000, count), found)
        for name, size in _SIZES
        for count in _GPU_COUNTS
    ]
    return table(("model", "GPUs", *_COLUMNS), rows)


_SIZES = (("135M", 135e6), ("1.7B", 1.7e9), ("8B", 8e9), ("32B", 32.8e9), ("70B", 70.6e9))


def _setup(model: Model, lengths: Any, pairs: float, count: int, part: str = "full", epochs: float = 1) -> Setup:
    return Setup(model, part, lengths, pairs, count, gpu("h100"), epochs, None, PRICE)


def pairs_table(found: Found) -> str:
    """Return the same from a thousand to a hundred million pairs."""
    lengths = read_lengths("ultrafeedback")
    rows = [
        _row((name, f"{pairs:,.0f}", str(count)), _setup(model_of(size), lengths, pairs, count), found)
        for name, size, count in (("135M", 135e6, 1), ("1.7B", 1.7e9, 8), ("8B", 8e9, 64), ("70B", 70.6e9, 1024))
        for pairs in _PAIR_COUNTS
    ]
    return table(("model", "pairs", "GPUs", *_COLUMNS), rows)


def part_table(found: Found) -> str:
    """Return what training less saves, three epochs."""
    lengths = read_lengths("ultrafeedback")
    rows = [
        _row((name, part), _setup(model_of(size), lengths, 61_000, count, part, 3), found, card)
        for name, size, count, card in (
            ("1.7B", 1.7e9, 8, "h100"),
            ("8B", 8e9, 8, "h100"),
            ("70B", 70.6e9, 16, "h200"),
        )
        for part in ("full", "last5", "lora")
    ]
    return table(("model", "trained", *_COLUMNS), rows)


def store_table() -> str:
    """Return bytes a pair, and how many pairs a disk holds."""
    rows = []
    for data in ("hh_rlhf", "ultrafeedback"):
        lengths = read_lengths(data)
        size = reference_store_bytes(lengths, SHARD_PAIRS) / SHARD_PAIRS
        tokens = f"{mean_tokens(lengths):.0f}"
        rows.append((f"{data}, reference store", tokens, amount(size), *_disks(size)))
        for _, parameters in _SIZES:
            model = model_of(parameters)
            size = trunk_store_bytes(model, lengths)
            rows.append((f"{data}, trunk cache of {model.name}", tokens, amount(size), *_disks(size)))
    header = ("store", "tokens a pair", "bytes a pair", "pairs on one disk", "disks for 1e5", "1e6", "1e7", "1e8")
    return table(header, rows)


def _disks(size: float) -> list[str]:
    return [f"{DISK / size:.2g}", *(f"{max(1, -(-pairs * size // DISK)):,.0f}" for pairs in (1e5, 1e6, 1e7, 1e8))]


def trunk_table(found: Found) -> str:
    """Return seconds to compute the frozen layers of a pair again, and to read their outputs."""
    lengths, device = read_lengths("ultrafeedback"), gpu("h100")
    host, network = measured_host(found, gpu_node=True), device.network
    rows = []
    for _, parameters in _SIZES:
        model = model_of(parameters)
        size = trunk_store_bytes(model, lengths)
        again = device.rates.seconds(pair_loads(model, "last5", lengths).trunk)
        read, fetched = size * device.per_node / host.read, size / network
        best = min(("computed again", again), ("disk", read), ("another node", fetched), key=lambda one: one[1])[0]
        rows.append((model.name, *(f"{1e3 * one:.2f}" for one in (again, read, fetched)), best))
    header = (
        "model, last 5 trained",
        "computed again, ms",
        "disk, shared by 8, ms",
        "another node's memory, ms",
        "least",
    )
    return table(header, rows)


def balance_table() -> str:
    """Return how much longer the slowest rank of a step has than the mean one."""
    counts = (2, 8, 64, 256, 1024)
    rows = [
        (f"{data}, {each} a rank", *(f"{imbalance(read_lengths(data), ranks, each):.0%}" for ranks in counts))
        for data in ("hh_rlhf", "ultrafeedback")
        for each in (1, 2, 4, 8, 16)
    ]
    return table(("pairs a step", *(f"{ranks} ranks" for ranks in counts)), rows)


def checkpoint_table(found: Found) -> str:
    """Return how large a checkpoint is, how long it takes, and how often it pays."""
    lengths, host = read_lengths("ultrafeedback"), measured_host(found, gpu_node=True)
    rows = []
    for size, part, count in (
        (1.7e9, "full", 8),
        (8e9, "full", 64),
        (70.6e9, "full", 256),
        (70.6e9, "full", 1024),
        (70.6e9, "lora", 64),
    ):
        setup = _setup(model_of(size), lengths, 61_000, count, part)
        seconds = checkpoint_seconds(setup, host)
        interval = best_interval(setup, seconds)
        rows.append(
            (
                setup.model.name,
                part,
                str(count),
                amount(checkpoint_bytes(setup)),
                duration(seconds),
                duration(interval),
                f"{2 * seconds / interval:.2%}",
            )
        )
    header = ("model", "trained", "GPUs", "checkpoint", "written in", "best interval", "writing and lost work")
    return table(header, rows)


def parts(found: Found) -> dict[str, Callable[[], str]]:
    """Return every table of the page by the name of its marks."""
    return {
        "circumstances": partial(_circumstances, found),
        "held out": partial(prediction_table, found, "held_out"),
        "seen": partial(prediction_table, found, "seen"),
        "calibration": partial(prediction_table, found, "calibration"),
        "checks": partial(other_checks, found),
        "units": partial(unit_table, found),
        "host": partial(host_table, found),
        "efficiency": efficiency_table,
        "public": public_check,
        "sizes": partial(size_table, found),
        "pairs": partial(pairs_table, found),
        "trained": partial(part_table, found),
        "stores": store_table,
        "trunk": partial(trunk_table, found),
        "balance": balance_table,
        "checkpoints": partial(checkpoint_table, found),
    }


def _circumstances(found: Found) -> str:
    about = found["circumstances"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    ratios = []
    for run in found["runs"].values():
        whole = [one["reference_seconds"] + one["epoch_seconds"] for one in run["repeats"]]
        ratios.append(max(whole) / min(whole) - 1)
    noise = f"The slowest repetition of a run took {median(ratios):.0%} more than the quickest in the median"
    return f"{about['date']}, {about['machine']}; {versions}.\n{noise}, {max(ratios):.0%} at most.\n"


def rendered(text: str, found: Found) -> str:
    """Return the page with every table made anew.

    Raises:
        ValueError: A table has no place on the page.
    """
    for name, make in parts(found).items():
        pattern = re.compile(rf"(<!-- scale: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"docs/scale.md has no place for the table {name!r}")
        made = make()
        text = pattern.sub(lambda match, made=made: f"{match[1]}\n{made}\n{match[2]}", text)
    return text


def write_page(found: Found) -> None:
    """Write docs/scale.md's tables and pictures anew."""
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    # same figures, same file
    matplotlib.rcParams |= {"svg.hashsalt": "penchant", "svg.fonttype": "none", "font.family": ["DejaVu Sans"]}
    for name, draw in (("prediction", draw_prediction), ("time", draw_time), ("parts", draw_parts)):
        draw(found).savefig(DOCS / f"scale-{name}.svg", metadata={"Date": None})
    draw_stores().savefig(DOCS / "scale-stores.svg", metadata={"Date": None})


def draw_prediction(found: Found) -> Figure:
    """Return measured against predicted seconds, with a band of 25 % either way."""
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    sets = {"calibration": "had a part in it", "held_out": "held out", "seen": "held out at first"}
    every = [one.measured for which in sets for one in predictions(found, which)]
    ends = [min(every) / 1.5, max(every) * 1.5]
    axes.fill_between(ends, [(1 - _TOLERANCE) * x for x in ends], [(1 + _TOLERANCE) * x for x in ends], alpha=0.12)
    axes.plot(ends, ends, color="0.5", linewidth=0.8)
    for (which, label), colour in zip(sets.items(), COLOURS, strict=False):
        points = predictions(found, which)
        axes.scatter(
            [one.measured for one in points], [one.predicted for one in points], color=colour, label=label
        )
    _logarithmic(axes, "measured, seconds", "predicted, seconds")
    ticks = [3, 5, 10, 20, 30]
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_yticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set_title("A run's reference pass and one epoch", loc="left", fontsize=10)
    axes.legend(frameon=False)
    return figure


def draw_time(found: Found) -> Figure:
    """Return hours over GPUs, one line a size, the range of the assumptions shaded."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    counts = [1 << power for power in range(11)]
    lengths = read_lengths("ultrafeedback")
    for number, (name, size) in enumerate(_SIZES):
        setups = [_setup(model_of(size), lengths, 1e6, count) for count in counts]
        found_here = [(count, _outcomes(setup, found)) for count, setup in zip(counts, setups, strict=True)]
        fitting = [(count, [one.total / 3600 for one in three]) for count, three in found_here if three[1].layout]
        x, colour = [count for count, _ in fitting], COLOURS[number % len(COLOURS)]
        axes.fill_between(x, [t[0] for _, t in fitting], [t[2] for _, t in fitting], color=colour, alpha=0.15)
        style = DASHES[number // len(COLOURS)]
        axes.plot(x, [t[1] for _, t in fitting], color=colour, linestyle=style, marker=".", label=name)
    _logarithmic(axes, "H100s", "hours")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_title("A million pairs, one epoch, everything trained", loc="left", fontsize=10)
    axes.legend(frameon=False, ncols=3)
    return figure


def draw_parts(found: Found) -> Figure:
    """Return the shares of the time over GPUs, for three sizes."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    counts = [1 << power for power in range(11)]
    host, lengths = measured_host(found, gpu_node=True), read_lengths("ultrafeedback")
    palette = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    for axes, (name, size) in zip(panels, (_SIZES[1], _SIZES[2], _SIZES[4]), strict=True):
        outcomes = [(count, simulate(_setup(model_of(size), lengths, 1e6, count), host)) for count in counts]
        fitting = [(count, outcome) for count, outcome in outcomes if outcome.layout]
        names = list(fitting[0][1].seconds)
        shares = [[outcome.seconds[part] / outcome.total for _, outcome in fitting] for part in names]
        axes.stackplot([count for count, _ in fitting], shares, labels=names, colors=palette)
        axes.set_xscale("log", base=2)
        axes.set_xlim(1, 1024)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel("H100s")
    panels[0].set_ylabel("share of the time")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_stores() -> Figure:
    """Return bytes over pairs, with a disk's size."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    lengths = read_lengths("ultrafeedback")
    lines = [("reference store, any model", reference_store_bytes(lengths, SHARD_PAIRS) / SHARD_PAIRS)]
    lines += [(f"trunk cache, {name}", trunk_store_bytes(model_of(size), lengths)) for name, size in _SIZES]
    for number, (name, size) in enumerate(lines):
        colour, style = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS)]
        axes.plot(
            _PAIR_COUNTS, [pairs * size for pairs in _PAIR_COUNTS], color=colour, linestyle=style, label=name
        )
    for height, label in ((DISK, "one disk, 3.84 TB"), (8 * DISK, "a node's eight")):
        axes.axhline(height, color="0.5", linewidth=0.8)
        axes.annotate(label, (1.2e3, 1.15 * height), fontsize=8, color="0.4")
    _logarithmic(axes, "pairs", "bytes")
    axes.set_title("Stores, pairs like UltraFeedback", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _logarithmic(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
