"""Tables of README.md and of docs from bench/results: what is between a pair of markers is written anew.

    python -m bench.render

Of several sessions that measured a case on both sides the newest counts. Sessions of one command and set of
versions are one: repeats may be run one by one. Prose outside the markers is kept.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import questions
from bench.machine import HEAD, LAYER, shape_name

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
LOSS_STEPS = 20
DEFAULT_BATCH = 8
PARTS = {"last5": "the last 5 of 30 layers", "lora": "adapters of rank 16", "full": "the whole model"}

Line = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One case in one session."""

    letter: str
    session: Line
    runs: list[Line]

    @property
    def name(self) -> str:
        """The case in words."""
        case = self.runs[0]["case"]
        batch = "" if case["batch"] == DEFAULT_BATCH else f", {case['batch']} a step"
        return f"{case['rows']}, {case['part']}, {case['dtype']}, {case['pairs']} pairs{batch}"

    def is_of(self, rows: str, part: str, dtype: str) -> bool:
        """Whether it is this case, at the default batch."""
        case = self.runs[0]["case"]
        return (case["rows"], case["part"], case["dtype"], case["batch"]) == (rows, part, dtype, DEFAULT_BATCH)

    def of(self, side: str, mode: str, epochs: int | None = None) -> list[Line]:
        """Return the repeats of one kind of run."""
        return [
            run
            for run in self.runs
            if run["side"] == side and run["mode"] == mode and epochs in (None, run["epochs"])
        ]

    @property
    def trl_modes(self) -> list[str]:
        """TRL's modes that were run, in the order of the runs."""
        return list(dict.fromkeys(run["mode"] for run in self.runs if run["side"] == "trl"))


@dataclass(frozen=True)
class Seconds:
    """Medians over repeats; None where it was not run.

    Attributes:
        one: An epoch from the start, the reference included.
        later: An epoch after the first.
        three: Three epochs.
        peak: Bytes.
    """

    one: float | None
    later: float | None
    three: float | None
    peak: float


def main() -> None:
    """Write the tables."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """Return the pages with tables as the results have them."""
    sessions = [_read(path) for path in sorted(RESULTS.glob("*-*Z.jsonl"))]
    peers = [lines for lines in sessions if any(line["kind"] == "run" for line in lines)]
    scaling = [lines for lines in sessions if any(line["kind"] == "scaling" for line in lines)]
    cases = _newest(_joined(peers))
    used = {case.letter: case.session for case in cases}
    texts = {
        "docs/benchmarks.md": {
            "machine": _sessions(used),
            "summary": _summary(cases),
            "details": "\n".join(_details(case) for case in cases) or "Not measured yet.\n",
            "operations": _operations(cases),
            "scaling": _scaling(scaling[-1]) if scaling else "Not measured yet.\n",
        },
        "README.md": {"short": _short(cases)},
        "docs/questions.md": {"arms": questions.table(json.loads(questions.RESULTS.read_text())["arms"]) + "\n"},
    }
    written: dict[Path, str] = {}
    for name, blocks in texts.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        for block, text in blocks.items():
            page = _between(page, block, text)
        written[ROOT / name] = page
    return written


def ours(case: Measured) -> Seconds:
    """Return Penchant's seconds from cold caches."""
    one, three = case.of("penchant", "cold", 1), case.of("penchant", "cold", 3)
    return Seconds(
        one=_median(map(_whole, one)),
        later=_median(map(_later, three)),
        three=_median(map(_whole, three)),
        peak=max(run["peak_bytes"] for run in [*one, *three]),
    )


def trl(case: Measured, mode: str) -> Seconds:
    """Return TRL's seconds; epochs that were not run count as much as the first one's steps."""
    runs = case.of("trl", mode)

    def first(run: Line) -> float:
        return sum(run["step_seconds"][: _epoch_steps(run)])

    def later(run: Line) -> float:
        more = run["epochs"] - 1
        return sum(run["step_seconds"][_epoch_steps(run) :]) / more if more else first(run)

    return Seconds(
        one=_median(run["reference_seconds"] + first(run) for run in runs),
        later=_median(later(run) for run in runs),
        three=_median(run["reference_seconds"] + first(run) + 2 * later(run) for run in runs),
        peak=_median(run["peak_bytes"] for run in runs) or math.nan,
    )


def loss_difference(case: Measured, mode: str) -> tuple[float, int] | None:
    """Return the largest relative difference of the losses of the first steps, and how many steps; None: no such.

    Not for rows in TRL's own order ("tuned"), nor for LoRA, whose adapters each side draws at random.
    """
    mine, theirs = case.of("penchant", "cold"), case.of("trl", mode)
    if mode == "tuned" or case.runs[0]["case"]["part"] == "lora" or not mine or not theirs:
        return None
    steps = min(LOSS_STEPS, *(_epoch_steps(run) for run in (mine[0], theirs[0])))
    if steps == 1:  # ln 2 on both sides, which says nothing
        return None
    pairs = [
        (a, b)
        for one in mine
        for other in theirs
        for a, b in zip(one["losses"][:steps], other["losses"][:steps], strict=True)
    ]
    return max(abs(a - b) / abs(b) for a, b in pairs), steps


def _read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _joined(sessions: Sequence[list[Line]]) -> list[list[Line]]:
    """Sessions that differ in nothing but their time, as one: the first one's header, everybody's lines.

    Each run keeps the rates of its own session: the speed of a machine that others share wanders.
    """
    found: dict[str, list[Line]] = {}
    for header, *plain in sessions:
        rates = _best_rates([line["rates"] for line in (header, *plain) if "rates" in line])
        lines = [{**line, "rates_then": rates} for line in plain]
        key = json.dumps([header[name] for name in ("command", "processor", "versions")])
        if key in found:  # what the machine could do then counts too
            found[key].append({"kind": "rates", "rates": header["rates"]})
            if header["date"] not in found[key][0]["date"]:
                found[key][0]["date"] += f" and {header['date']}"
        found.setdefault(key, [dict(header)]).extend(lines)
    return list(found.values())


def _newest(sessions: Sequence[list[Line]]) -> list[Measured]:
    """Every case from the newest session that ran both sides, sorted by name; used sessions get letters."""
    found: dict[str, tuple[Line, list[Line]]] = {}
    for first, *lines in sessions:
        header = {**first, "rates": _best_rates([line["rates"] for line in (first, *lines) if "rates" in line])}
        runs: dict[str, list[Line]] = {}
        for line in (line for line in lines if line["kind"] == "run"):
            runs.setdefault(json.dumps(line["case"]), []).append(line)
        both = {key: own for key, own in runs.items() if {run["side"] for run in own} == {"penchant", "trl"}}
        found |= {key: (header, own) for key, own in both.items()}
    letters: dict[str, str] = {}
    cases = []
    for _, (header, runs_of_case) in sorted(found.items()):
        letter = letters.setdefault(json.dumps(header), chr(ord("A") + len(letters)))
        cases.append(Measured(letter, header, runs_of_case))
    return cases


def _best_rates(measured: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The best of what was measured before and after the runs, by dtype and shape."""
    return {
        dtype: {shape: max(one[dtype][shape] for one in measured) for shape in measured[0][dtype]}
        for dtype in measured[0]
    }


def _sessions(used: dict[str, Line]) -> str:
    text = ""
    for letter, session in sorted(used.items()):
        versions = ", ".join(f"{name} {version}" for name, version in session["versions"].items())
        text += (
            f"Session {letter}, {session['date']}: `{session['command']}`. {session['processor']}; {versions}. "
            "Its own matrix products (rows x inputs x outputs), GFLOP/s:\n\n"
        )
        rates = session["rates"]
        shapes = list(rates["fp32"])
        text += _table(
            ["", *shapes], [[name, *(f"{rates[name][shape] / 1e9:.0f}" for shape in shapes)] for name in rates]
        )
        text += "\n"
    return text or "Not measured yet.\n"


def _summary(cases: Sequence[Measured]) -> str:
    rows = []
    for case in cases:
        mine, warm = ours(case), _median(run["train_seconds"] for run in case.of("penchant", "warm"))
        for mode in case.trl_modes:
            theirs = trl(case, mode)
            difference = loss_difference(case, mode)
            rows.append(
                [
                    case.name,
                    mode,
                    _times(theirs.one, mine.one),
                    _times(theirs.three, mine.three),
                    _times(theirs.one, warm),
                    f"{mine.peak / theirs.peak:.0%}",
                    f"{difference[0]:.1e} ({difference[1]} steps)" if difference else "",
                    case.letter,
                ]
            )
    heads = ["case", "TRL as", "one epoch", "three epochs", "one epoch, warm caches", "peak memory"]
    return _table([*heads, "largest loss difference", "session"], rows) if rows else "Not measured yet.\n"


def _short(cases: Sequence[Measured]) -> str:
    """One line for each part of the model and precision: rows like HH-RLHF's, beside TRL as it comes and tuned."""
    rows = []
    for part, words in PARTS.items():
        for dtype in ("fp32", "bf16"):
            own = [case for case in cases if case.is_of("hh-like", part, dtype) and "tuned" in case.trl_modes]
            if not own:
                continue
            case = max(own, key=lambda one: one.runs[0]["case"]["pairs"])
            sides = (ours(case), trl(case, "plain"), trl(case, "tuned"))
            count = case.runs[0]["case"]["pairs"]
            cells = [f"{_number(one.one)} s, {one.peak / 1e9:.1f} GB" for one in sides]
            rows.append([f"{words}, {dtype}, {count} pairs", *cells])
    return _table(["one epoch of", "Penchant", "TRL", "TRL, tuned"], rows) if rows else "Not measured yet.\n"


def _details(case: Measured) -> str:
    first = case.runs[0]
    lengths = "; ".join(
        f"{name} {one['mean']} in the mean, {one['p90']} at the 90th percentile, {one['max']} at most"
        for name, one in first["lengths"].items()
    )
    count, tokens = first["case"]["pairs"], first["tokens"]
    warm = case.of("penchant", "warm")
    lines: list[tuple[str, Seconds, int]] = [
        ("Penchant", ours(case), len(case.of("penchant", "cold", 1)) or len(case.of("penchant", "cold", 3)))
    ]
    if warm:
        seconds = _median(run["train_seconds"] for run in warm)
        peak = max(run["peak_bytes"] for run in warm)
        lines.append(("Penchant, warm caches", Seconds(seconds, None, None, peak), len(warm)))
    lines += [_trl_line(case, mode) for mode in case.trl_modes]
    rows = [
        [
            name,
            _number(one.one),
            _number(one.later),
            _number(one.three),
            _number(one.one and count / one.one, 2),
            _number(one.later and count / one.later, 2),
            _number(one.one and tokens / one.one, 0),
            _number(one.later and tokens / one.later, 0),
            f"{one.peak / 1e9:.2f}",
            str(runs),
        ]
        for name, one, runs in lines
    ]
    heads = ["", "one epoch, s", "later epoch, s", "three epochs, s", "pairs/s", "later", "tokens/s", "later"]
    return (
        f"### {case.name}\n\nSession {case.letter}. Tokens: {lengths}. "
        f"{first['trained'] / 1e6:.1f} million parameters trained.\n\n"
        + _table([*heads, "peak, GB", "runs"], rows)
    )


def _trl_line(case: Measured, mode: str) -> tuple[str, Seconds, int]:
    runs = case.of("trl", mode)
    counted = " (later epochs counted)" if runs[0]["epochs"] == 1 else ""
    return f"TRL, {mode}{counted}", trl(case, mode), len(runs)


def _operations(cases: Sequence[Measured]) -> str:
    rows = []
    for case in cases:
        once, epoch = case.runs[0]["flops"]["once"], case.runs[0]["flops"]["epoch"]
        both = {part: once[part] + epoch[part] for part in once}
        for what, cost, runs, seconds_of in (
            ("first epoch", both, case.of("penchant", "cold", 1), _whole),
            ("later epoch", epoch, case.of("penchant", "cold", 3), _later),
            ("one epoch, warm caches", epoch, case.of("penchant", "warm"), _whole),
        ):
            seconds = _median(map(seconds_of, runs))
            share = _median(_ideal(cost, run) / seconds_of(run) for run in runs)
            if seconds and share:
                total = sum(cost.values())
                rows.append(
                    [
                        case.name,
                        what,
                        f"{total / 1e9:.0f}",
                        f"{cost['head'] / total:.0%}",
                        f"{seconds:.2f}",
                        f"{total / seconds / 1e9:.0f}",
                        f"{share:.0%}",
                    ]
                )
    heads = ["case", "part", "useful GFLOP", "of it the head", "seconds", "GFLOP/s", "of the machine's own rate"]
    return _table(heads, rows) if rows else "Not measured yet.\n"


def _scaling(lines: list[Line]) -> str:
    header, *points = lines
    text = f"{header['date']}: `{header['command']}`. {header['processor']}.\n\n"
    rows, series = [], dict.fromkeys(point["series"] for point in points)
    for name in series:
        own = [point for point in points if point["series"] == name]
        exponent = _exponent([point["tokens"] for point in own], [point["seconds"] for point in own])
        for index, point in enumerate(own):
            rows.append(
                [
                    name if index == 0 else "",
                    point["what"],
                    str(point["tokens"]),
                    f"{point['seconds']:.2f}",
                    f"{point['seconds'] / point['tokens'] * 1e3:.3f}",
                    f"{exponent:.2f}" if index == 0 else "",
                ]
            )
    heads = ["series", "", "tokens", "seconds", "ms per token", "exponent"]
    return text + _table(heads, rows)


def _exponent(tokens: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log seconds over log tokens, least squares: 1 when cost grows as tokens do."""
    x, y = [math.log(value) for value in tokens], [math.log(value) for value in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def _whole(run: Line) -> float:
    return run["train_seconds"]


def _later(run: Line) -> float:
    """Seconds of an epoch after the first, of three."""
    return sum(run["step_seconds"][_epoch_steps(run) :]) / 2


def _ideal(cost: dict[str, float], run: Line) -> float:
    """Seconds that the machine's own products needed for the operations at the time of the run."""
    rates = run["rates_then"][run["case"]["dtype"]]
    return cost["layers"] / rates[shape_name(LAYER)] + cost["head"] / rates[shape_name(HEAD)]


def _epoch_steps(run: Line) -> int:
    return math.ceil(run["case"]["pairs"] / run["case"]["batch"])


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None


def _times(theirs: float | None, mine: float | None) -> str:
    return f"{theirs / mine:.1f}x" if theirs and mine else ""


def _number(value: float | None, places: int = 1) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _between(page: str, name: str, text: str) -> str:
    """Put a text between the two markers of a name."""
    pattern = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
    keep: Callable[[re.Match[str]], str] = lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}"  # noqa: E731
    page, count = pattern.subn(keep, page)
    if count != 1:
        raise SystemExit(f"a page has {count} pairs of markers named {name}, not 1")
    return page


if __name__ == "__main__":
    main()
