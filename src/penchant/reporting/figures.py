"""How figures are printed on every page, and how they are taken out of files that anybody may have edited."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]

NOT_MEASURED = "not measured"
_TOO_LARGE = 1e30
_PLAIN_FROM, _PLAIN_BELOW, _WHOLE_FROM = 1e-3, 1e6, 1e4
_MINUTE = 60


def percent(value: float) -> str:
    """Return a fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}%"


def plain_number(value: float) -> str:
    """Return a number with four significant digits, without an exponent where that reads well."""
    if value == 0:
        return "0"
    if not _PLAIN_FROM <= abs(value) < _PLAIN_BELOW:
        return f"{value:.3g}"
    whole = f"{value:,.0f}"
    return whole if value == round(value) or abs(value) >= _WHOLE_FROM else f"{value:.4g}"


def count(value: float) -> str:
    """Return a whole number with its thousands set apart."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that are worth reading."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def byte_size(size: float) -> str:
    """Return a number of bytes in the binary unit that leaves one to four digits before the point."""
    power = min(4, int(math.log2(size) // 10)) if size >= 1 else 0
    return f"{size / 1024**power:.{1 if power else 0}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def finite_number(value: object) -> float | None:
    """Return a value as a number, or None for what is no number or too large to be drawn or printed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _TOO_LARGE else None


def number_of(source: Mapping[str, Any], key: str) -> float | None:
    """Return the number under a key, None where there is none."""
    return finite_number(source.get(key))


def interval_of(source: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """Return the interval of the figure under a key, from its twin `KEY_interval`; None where there is none."""
    match source.get(f"{key}_interval"):
        case [low, high] | {"low": low, "high": high}:
            bounds = finite_number(low), finite_number(high)
        case _:
            return None
    return None if bounds[0] is None or bounds[1] is None else (bounds[0], bounds[1])


def figure_of(source: Mapping[str, Any], key: str, show: Callable[[float], str]) -> Row | None:
    """Return the figure under a key as text, `value` and `interval` ("" without one); None where it is none."""
    value, interval = number_of(source, key), interval_of(source, key)
    if value is None:
        return None
    bounds = f"{show(interval[0])} to {show(interval[1])}" if interval else ""
    return {"value": show(value), "interval": bounds}


def mapping_of(source: Mapping[str, Any], key: str) -> Row:
    """Return the object under a key, {} where there is none."""
    found = source.get(key)
    return found if isinstance(found, dict) else {}


def rows_of(source: Mapping[str, Any], key: str) -> list[Row]:
    """Return the objects of the list under a key; what is no object is left out."""
    return [row for row in list_of(source, key) if isinstance(row, dict)]


def list_of(source: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list under a key, [] where there is none."""
    found = source.get(key)
    return found if isinstance(found, list) else []


def text_of(source: Mapping[str, Any], key: str, missing: str = "") -> str:
    """Return what stands under a key as text."""
    found = source.get(key)
    return missing if found is None else found if isinstance(found, str) else str(found)
