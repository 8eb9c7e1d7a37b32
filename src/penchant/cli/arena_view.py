"""What `penchant arena` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from penchant.cli.console import printable
from penchant.evaluation.arena.ballots import Read


def describe_arena(figures: Mapping[str, Any]) -> str:
    """Return the figures of an arena in lines; see `penchant.evaluation.arena.figures.arena_figures`."""
    return printable("\n".join(_lines(figures)))


def describe_export(counts: Mapping[str, Any]) -> str:
    """Return what an export holds, in words; see `penchant.evaluation.arena.export.write_export`."""
    undecided = ", ".join(f"{count} {reason}" for reason, count in counts["undecided"].items() if count)
    lost = f" Not among them: {undecided} (undecided.jsonl)." if undecided else ""
    open_ones = f" {counts['not_rated']} prompts have no vote yet." if counts["not_rated"] else ""
    return f"{counts['pairs']} pairs from {counts['votes']} votes.{lost}{open_ones}"


def describe_read(file: Path, found: Read) -> str:
    """Return what came of a file of votes, in words."""
    known = f", {found.known} were known" if found.known else ""
    other = (
        f"; on {found.other} pairs {found.rater} had voted otherwise before, and that vote stays"
        if found.other
        else ""
    )
    return printable(f"{file}: {found.new} new votes by {found.rater}{known}{other}")


def _lines(figures: Mapping[str, Any]) -> Iterator[str]:
    first, second = figures["first"], figures["second"]
    rated = f"{figures['prompts_rated']} of {figures['prompts']} prompts"
    yield f"{first} against {second}: {figures['votes']} votes on {rated}"
    if not figures["votes"]:
        return
    said = figures["choices"]
    yield f"  {first} {said['first']}, {second} {said['second']}, ties {said['tie']}, both bad {said['bad']}"
    yield f"  Win rate of {first}   {_share(figures['win_rate'])} (for a number of votes fixed beforehand)"
    yield from _decided(figures)
    for rater in figures["raters"]:
        yield from _rater(rater)
    if figures["agreement"]:
        yield f"  Two raters agree      {_share(figures['agreement'])} of {figures['agreement']['pairs']} cases"
    if figures["label_noise"]:
        noise = figures["label_noise"]
        yield f"  Flipped labels        {_share(noise)}, by {noise['differing']} changes in {noise['pairs']} pairs"
    offer = figures["label_smoothing"]
    yield f"  {offer['why']}" + (f"\n  For the next round:   {offer['setting']}" if offer["setting"] else "")


def _decided(figures: Mapping[str, Any]) -> Iterator[str]:
    decided = figures["decided"]
    low, high = decided["interval"]
    band = f"{100 * low:.1f} to {100 * high:.1f} %, however often you look"
    if decided["better"]:
        better = figures[decided["better"]]
        yield f"  Decided after {decided['at']} prompts: {better} is preferred ({band}). You may stop."
    else:
        yield f"  Not decided yet ({band})."


def _rater(rater: Mapping[str, Any]) -> Iterator[str]:
    steady = rater["consistency"]
    again = f"the same again in {_share(steady)} of {steady['repeats']} repeats" if steady else "no repeats yet"
    yield f"  {rater['rater']}: {rater['votes']} votes, {again}"
    if rater["side_bias"]:
        yield f"    Warning: picks the {rater['side_bias']} far more often than chance, whatever stands there."


def _share(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{100 * value['value']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
