"""docs/losses.md says what the code's own table says."""

from __future__ import annotations

from pathlib import Path

from penchant.reporting.losses_page import loss_markdown

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"


def test_the_page_is_made_from_the_table() -> None:
    """To write it anew: penchant losses --markdown, between the marks."""
    written = PAGE.read_text(encoding="utf-8").split("<!-- losses -->\n")[1].split("<!-- end -->")[0]
    assert written == loss_markdown()
