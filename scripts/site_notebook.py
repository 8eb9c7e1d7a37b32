"""The notebook as a page of the documentation site, with the outputs that are in its file.

A hook of mkdocs (see mkdocs.yml). A notebook is JSON, so nothing but the standard library is needed.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "penchant.ipynb"
PAGE = "notebook.md"


def page(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown, its outputs below their cells."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell)) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """Add the page."""
    from mkdocs.structure.files import File  # pyright: ignore[reportMissingImports]  # of the site's environment

    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    files.append(File.generated(config, PAGE, content=page(notebook)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to the notebook's file to its page."""
    return markdown.replace("](../notebooks/penchant.ipynb)", f"]({PAGE})")


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = _text(cell["source"])
    if cell["cell_type"] == "markdown":
        yield re.sub(r"\]\(\.\./docs/", "](", source)  # where the pages of the site lie
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text/html" in data:
            yield f'<div class="output">\n{_text(data["text/html"])}\n</div>'
        else:
            text = _text(output.get("text", data.get("text/plain", ""))).rstrip()
            yield f'<div class="output"><pre>{html.escape(text)}</pre></div>'


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)
