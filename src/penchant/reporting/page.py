"""What Penchant's pages have in common: one gate that all text passes, and the environment that renders them.

Whatever a page prints comes from models, data and configurations. What could steer a reader's eye, or hide from
it, is made visible here; then Jinja escapes it. Styles and scripts are pinned by their digests in the policy.
"""

from __future__ import annotations

import base64
import hashlib

import jinja2
from markupsafe import Markup

from penchant.reporting.charts import Chart
from penchant.reporting.figures import percent, plain_number

_CONTROLS = (
    *(*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)),
    *(*range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # they turn text around
    *(0x00AD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF),  # they take no room
)
_SIGNS = {code: f"⟨U+{code:04X}⟩" for code in _CONTROLS} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def visible(text: str) -> str:
    """Return text with every control, bidirectional override, zero-width character and surrogate as a sign."""
    return text.replace("\r\n", "\n").translate(_SIGNS)


def page_environment(package: str = "penchant.reporting") -> jinja2.Environment:
    """Return the environment of a package's templates: the gate, escaping, and the filters that pages use."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters |= {"number": plain_number, "share": percent, "digest": _digest, "svg": _drawn}
    return environment


def _harmless(value: object) -> object:
    """The gate: text is made visible here and escaped right after; only our own markup is left as it is."""
    return value if isinstance(value, Markup) else visible(str(value))


def _drawn(chart: Chart) -> Markup:
    return Markup(visible(chart.svg))  # an XML writer escaped its text


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(str(source).encode("utf-8")).digest()).decode("ascii")
