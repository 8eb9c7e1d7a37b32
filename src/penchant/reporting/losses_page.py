"""The table of losses as Markdown, for docs/losses.md and `penchant losses`."""

from __future__ import annotations

from penchant.config import OBJECTIVE_OPTIONS, ObjectiveConfig
from penchant.objective.loss_table import LOSSES, Loss, OfConfig
from penchant.reporting.figures import plain_number

HEADS = ("loss", "of one pair", "logps", "at policy = reference", "slope there", "beta", "source")


def loss_rows() -> list[tuple[str, ...]]:
    """Return a row a loss under `HEADS`: values with the loss's own defaults."""
    return [
        (
            name,
            loss.equation,
            _logps(name, loss),
            _value(name, loss.at_reference),
            _value(name, loss.slope),
            f"{OBJECTIVE_OPTIONS[name]['beta']:g}: {loss.beta}"
            if "beta" in OBJECTIVE_OPTIONS[name]
            else "not used",
            loss.paper,
        )
        for name, loss in LOSSES.items()
    ]


def option_rows() -> list[tuple[str, str]]:
    """Return each option of `objective` but beta, with the losses that use it and their defaults."""
    options = dict.fromkeys(option for used in OBJECTIVE_OPTIONS.values() for option in used if option != "beta")
    return [(option, _users(option)) for option in options]


def loss_markdown() -> str:
    """Return both tables as Markdown."""
    losses = [[f"`{name}`", f"`{equation}`", *rest] for name, equation, *rest in loss_rows()]
    options = [[f"`{option}`", users] for option, users in option_rows()]
    return _table(HEADS, losses) + "\n" + _table(("option", "used by (default)"), options)


def _logps(name: str, loss: Loss) -> str:
    if loss.always_mean:
        return "mean"
    return "sum, mean or mean_all" if name != "sft" else "sum or mean"


def _value(name: str, known: OfConfig) -> str:
    value = known(ObjectiveConfig.model_validate({"loss": name}))
    return "depends on the data" if value is None else plain_number(value)


def _users(option: str) -> str:
    by_default: dict[str, list[str]] = {}
    for name, options in OBJECTIVE_OPTIONS.items():
        if option in options:
            default = "none" if options[option] is None else str(options[option]).lower()
            by_default.setdefault(default, []).append(name)
    return "; ".join(f"{', '.join(names)} ({default})" for default, names in by_default.items())


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *escaped]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
