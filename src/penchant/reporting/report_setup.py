"""The report's end: how good the plan was, what was set, how to do it again, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penchant.config import build_config
from penchant.errors import PenchantError
from penchant.reporting.curves import Event
from penchant.reporting.figures import (
    Row,
    byte_size,
    duration,
    figure_of,
    list_of,
    mapping_of,
    number_of,
    plain_number,
    rows_of,
    text_of,
)
from penchant.reporting.run_files import RunFiles

# What `penchant plan` predicts: label, key, how to print it.
PREDICTED = (
    ("Time per step", "step_seconds", duration),
    ("Total time", "total_seconds", duration),
    ("Peak memory", "memory_bytes", byte_size),
)
_CIRCUMSTANCES = ("run", "versions", "git", "device", "fingerprint", "data_fingerprint", "seed")
_EPOCHS = 12  # ends of epochs worth a mark


class State(NamedTuple):
    """Where the run stands.

    Attributes:
        tone: good, bad or open.
        word: finished, running, stopped or failed.
        about: More of it, in a sentence.
        command: What goes on from there, "" where nothing does.
    """

    tone: str
    word: str
    about: str
    command: str


class Next(NamedTuple):
    """Something to do, and the command for it ("" where there is none)."""

    what: str
    command: str = ""


def state_of(files: RunFiles) -> State:
    """Return where the run stands, by `status.json`."""
    status, word = files.status, text_of(files.status, "state")
    command = text_of(status, "resume")
    reason = text_of(status, "reason")
    at, total = number_of(status, "step"), number_of(status, "total_steps")
    saved = f"Saved are {plain_number(at)} of {plain_number(total)} steps." if at and total else ""
    if word == "finished" or (not word and files.training):
        return State("good", "finished", "", "")
    if word == "running":
        since = text_of(status, "updated")
        alive = f" Its last sign of life: {since}." if since else ""
        doing = text_of(status, "phase")
        return State("open", "running", f"When this page was made: {doing}.{alive} {saved}".strip(), "")
    if word == "stopped":
        return State("open", "stopped", " ".join(filter(None, (_sentence(reason), saved))), command)
    if word == "failed":
        where = f"Its traceback is in {text_of(status, 'traceback')}." if status.get("traceback") else ""
        pairs = ", ".join(map(str, list_of(status, "pairs")[:10]))
        blamed = f"The pairs of the step: {pairs}." if pairs else ""
        return State("bad", "failed", " ".join(filter(None, (_sentence(reason), blamed, where, saved))), command)
    return State("open", "not ended", "There is no status.json that says how it ended.", "")


def events_of(files: RunFiles) -> list[Event]:
    """Return what happened after which step: findings, ends of epochs, changed settings, the weights kept."""
    training = files.training or {}
    found = [
        Event(step, f"monitor: {text_of(row, 'name', 'a finding')}")
        for row in rows_of(training, "findings")
        if (step := number_of(row, "step")) is not None
    ]
    for change in rows_of(files.circumstances, "allowed_changes"):
        if (step := number_of(change, "after_step")) is not None:
            what = f"{text_of(change, 'key')}: {text_of(change, 'was')} to {text_of(change, 'now')}"
            found.append(Event(step, f"resumed with another setting, {what}"))
    found += _epoch_ends(files.steps)
    kept = number_of(training, "kept_step")
    last = number_of(files.steps[-1], "step") if files.steps else None
    if kept is not None and kept != last:
        found.append(Event(kept, "these weights were kept"))
    return sorted(found)


def predictions_of(plan: Row) -> list[Row]:
    """Return each planned figure that the run graded: predicted with interval, measured, and whether it held."""
    rows = []
    for label, key, show in PREDICTED:
        grade = mapping_of(plan, key)
        measured, low, high = (number_of(grade, name) for name in ("measured", "low", "high"))
        if measured is None or low is None or high is None:
            continue
        predicted = figure_of({**grade, "value_interval": [low, high]}, "value", show)
        missed = "less than predicted" if measured < low else "more than predicted" if measured > high else ""
        rows.append({"label": label, "predicted": predicted, "measured": show(measured), "missed": missed})
    return rows


def circumstances_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return seed, versions and circumstances that the configuration names."""
    facts: list[tuple[str, object]] = []
    for key, value in config.items():
        if key in _CIRCUMSTANCES:
            facts += _leaves(key, value)
        elif isinstance(value, dict) and "seed" in value:
            facts.append((f"{key}.seed", value["seed"]))
    return [(name, str(entry)) for name, entry in facts if isinstance(entry, str | int | float)]


def chosen_settings(config: Mapping[str, Any]) -> list[tuple[str, str, str]] | None:
    """Return the settings that are not the defaults of the run's loss: key, value, default.

    None where this version of Penchant does not understand the configuration.
    """
    values = {key: value for key, value in config.items() if key != "run"}
    try:
        loss = mapping_of(values, "objective").get("loss")
        own = build_config(values).resolved()
        plain = build_config({"objective": {"loss": loss}} if loss is not None else {}).resolved()
    except PenchantError:
        return None
    ours, theirs = dict(_leaves("", own)), dict(_leaves("", plain))
    ours["objective.loss"], theirs["objective.loss"] = str(loss), "dpo"
    return [(key, str(value), str(theirs.get(key))) for key, value in ours.items() if theirs.get(key) != value]


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting and circumstance by its dotted key."""
    return dict(_leaves("", dict(config)))


def commands_of(files: RunFiles) -> list[str]:
    """Return the commands that do the run again; RUN stands for this folder."""
    facts = files.circumstances
    data = text_of(facts, "data") or "DATA"
    if files.config_text is None:
        return []
    limit = f" --limit {facts['limit']}" if facts.get("limit") is not None else ""
    verb = "sft" if files.losses == ("sft",) else "train"
    seed = "sed '/^run:/,$d' RUN/config.yaml > again.yaml"
    return [seed, f"penchant {verb} again.yaml --data {shlex.quote(data)}{limit} --out runs/again"]


def next_steps(files: RunFiles, tone: str) -> list[Next]:
    """Return what to do next, the most urgent first; RUN stands for this folder."""
    state, facts = state_of(files), files.circumstances
    if state.word == "running":
        return [Next("It still runs. Make this page again when it has ended:", "penchant report RUN")]
    if state.word in ("stopped", "failed"):
        steps = [Next("Go on from the last checkpoint:", state.command)] if state.command else []
        return [*steps, Next("Make this page again when it has ended:", "penchant report RUN")]
    if files.summary is None and files.comparison is None:
        data = text_of(facts, "data")
        held_out = (
            "HELD_OUT" if not data else f"{shlex.quote(data)}   # a folder with a test split, or other pairs"
        )
        return [
            Next(
                "Measure whether it worked, on pairs that were not trained on:",
                f"penchant eval RUN --data {held_out}",
            ),
            Next("Talk to it, beside what it was before:", "penchant chat RUN"),
        ]
    steps = []
    if (files.training or {}).get("findings") or tone != "good":
        steps.append(Next("Find out why, with evidence and what to try:", "penchant explain RUN"))
    steps.append(Next("Talk to it, beside what it was before:", "penchant chat RUN"))
    steps.append(Next("Hold it against another run, row by row:", "penchant report RUN OTHER_RUN"))
    return steps


def _epoch_ends(steps: Sequence[Row]) -> list[Event]:
    ends, before = [], 0
    for row in steps:
        epoch, step = number_of(row, "epoch"), number_of(row, "step")
        if epoch is None or step is None or epoch < before + 1 or not epoch < _TOO_MANY:
            continue
        before = int(epoch)
        ends.append(Event(step, f"end of epoch {before}"))
    return ends if 1 < len(ends) <= _EPOCHS else []


_TOO_MANY = 1e6


def _leaves(key: str, value: object) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        return [(key, value)]
    lead = f"{key}." if key else ""
    return [leaf for name, entry in value.items() for leaf in _leaves(f"{lead}{name}", entry)]


def _sentence(text: str) -> str:
    return text if not text or text.endswith(".") else f"{text}."
