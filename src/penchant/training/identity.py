"""What a resume must find unchanged, and what may change after all.

A run's identity is its configuration, the fingerprints of its data, the digests of its start and reference, and
the precision. The number of processes is no part of it. A difference is harmless when no step already taken would
have another number or another meaning; only such a one may be allowed by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penchant.config import Config
from penchant.errors import ModelError, UsageError, did_you_mean

CHANGES = "allowed_changes"  # of the identity: what was allowed on the way, in its order
_ABSENT = "not used"


@dataclass(frozen=True)
class Change:
    """A part of the identity that is another one now.

    Attributes:
        key: `train.epochs`, or `data`, `model`, ...
        was: Its value when the checkpoint was written; "not used" where there was none.
        now: Its value now.
        schedule: The section `train` as it was; whether the number of steps matters depends on it.
    """

    key: str
    was: Any
    now: Any
    schedule: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.was)} -> {_shown(self.now)}"


def _shown(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return what differs between two identities, the configuration key by key."""
    schedule = was.get("config", {}).get("train", {}) if isinstance(was.get("config"), dict) else {}
    before, after = _flat(was), _flat(now)
    keys = [*before, *(key for key in after if key not in before)]
    pairs = [(key, before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in keys]
    return [Change(key, old, new, schedule) for key, old, new in pairs if old != new]


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        if name == CHANGES:
            continue
        if name != "config" or not isinstance(value, dict):
            flat[name] = value
            continue
        for section, options in value.items():
            entries = options.items() if isinstance(options, dict) else [("", options)]
            flat |= {f"{section}.{option}": setting for option, setting in entries}
    return flat


def check_identity(
    was: Mapping[str, Any], now: Mapping[str, Any], *, where: str, allow: Sequence[str] = ()
) -> list[Change]:
    """Return the changes that were allowed; refuse a checkpoint that was made by something else.

    Args:
        was: The identity in the checkpoint.
        now: The identity of the run that is to go on.
        where: The checkpoint.
        allow: Keys of the configuration that may differ, such as `train.checkpoint_every`.

    Raises:
        UsageError: A key to allow is not one of the configuration.
        ModelError: There are other differences; each is named with what it was and is. Or a difference is allowed
            that is not harmless; the reason is given.
    """
    _check_keys(allow)
    changes = differences(was, now)
    allowed = [change for change in changes if change.key in allow]
    for change in allowed:
        if reason := harm(change):
            raise ModelError(
                f"--allow-change {change.key}: {reason} ({change})",
                where=where,
                fix="Resume with what the run was started with, or choose a new --out.",
            )
    refused = [change for change in changes if change.key not in allow]
    if refused:
        names = dict.fromkeys("config" if "." in change.key else change.key for change in refused)
        harmless = [change.key for change in refused if not harm(change)]
        raise ModelError(
            f"this run was started with another {', another '.join(names)}"
            + "".join(f"\n    {change}" for change in refused),
            where=where,
            fix="Resume with what it was started with, or choose a new --out."
            + (f" Harmless: {' '.join(f'--allow-change {key}' for key in harmless)}." if harmless else ""),
        )
    return allowed


def record_of(changes: Sequence[Change], step: int) -> list[dict[str, Any]]:
    """Return changes as plain data, for `config.yaml` and checkpoints."""
    return [{"key": one.key, "was": one.was, "now": one.now, "after_step": step} for one in changes]


def harm(change: Change) -> str:
    """Return why a change must not be allowed; "" when it is harmless."""
    if "." not in change.key:
        return f"another {change.key} makes it another run"
    judge = _JUDGES.get(change.key) or _JUDGES.get(f"{change.key.partition('.')[0]}.*")
    return judge(change) if judge else "it changes what the steps compute, or what their figures mean"


def _check_keys(allow: Sequence[str]) -> None:
    known = {
        f"{section}.{option}"
        for section, field in Config.model_fields.items()
        for option in getattr(field.annotation, "model_fields", {})
    }
    for key in allow:
        if key not in known:
            raise UsageError(
                f"{key} is no key of the configuration.{_nearest(key, known)}", where="--allow-change"
            )


def _nearest(key: str, known: set[str]) -> str:
    hint = did_you_mean(key, known)
    return hint if "Did you mean" in hint else " A key is section.option, such as train.checkpoint_every."


def _harmless(change: Change) -> str:
    return ""


def _number_of_steps(change: Change) -> str:
    """More or fewer steps are harmless where no step's learning rate depends on how many there are."""
    schedule = change.schedule.get("schedule")
    if schedule != "constant":
        return f'with train.schedule "{schedule}" the rates of steps already taken depend on the number of steps'
    if change.schedule.get("warmup_steps") is None and change.schedule.get("warmup_fraction"):
        return "the warm-up is a fraction of the number of steps (train.warmup_fraction), and lies behind"
    return ""


def _other_path(change: Change) -> str:
    """The digest or the fingerprint says whether it is still the same; only a name for none is another run."""
    if isinstance(change.was, str) and isinstance(change.now, str) and _ABSENT not in (change.was, change.now):
        return ""
    return "it is not another place of the same thing"


def _other_interval(change: Change) -> str:
    if isinstance(change.was, int) and isinstance(change.now, int):
        return ""
    return "the answers begin before the first step, so they cannot be turned on or off later"


# Who judges a change of which key; a section's rule holds for keys without one of their own. What is not here is
# refused: losses, data, batches, seeds and rates decide what a step computes; train.evaluate_* and train.keep_best
# what "the best so far" means; monitor.prompts and monitor.max_new_tokens what the recorded answers compare with.
_JUDGES: dict[str, Callable[[Change], str]] = {
    "train.checkpoint_every": _harmless,  # nothing is computed for it
    "train.epochs": _number_of_steps,
    "train.max_steps": _number_of_steps,
    "train.early_stop": _harmless,  # validations so far stay counted; it only says how many are enough
    "train.evaluate_data": _other_path,  # its fingerprint is compared on its own
    "model.path": _other_path,  # its digest is compared on its own
    "model.reference": _other_path,
    "monitor.displacement_stop": _harmless,  # ends the run, and changes no figure
    "monitor.generate_every": _other_interval,
    "eval.*": _harmless,  # used when the run is over
    "engine.*": _harmless,  # how it is computed: changes nothing beyond rounding, and the precision is compared
    "engine.precision": lambda change: "steps of another precision do not compare",
}
