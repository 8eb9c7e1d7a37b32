"""`penchant recipes` and `penchant migrate`: what is packaged, and what becomes of another tool's file."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable
from penchant.errors import DiskError, UsageError
from penchant.recipes import recipe_text
from penchant.recipes.account import Migration, migration_text
from penchant.recipes.listing import Listed, listing
from penchant.recipes.migration import migrate_file


def recipes(name: str | None, *, as_json: bool) -> None:
    """Run `penchant recipes`: list them, or print the YAML of one."""
    if name is not None and as_json:
        raise UsageError("--json lists all recipes; without a name", fix="Give a name or --json.")
    if name is not None:
        print(recipe_text(name), end="")
        return
    found = listing()
    if as_json:
        print(json.dumps([_plain(recipe) for recipe in found]))
        return
    Console(soft_wrap=False).print(_table(found))
    print(
        "\nNext  penchant recipes NAME > mine.yaml    its YAML, with launch lines and notes, to read or to edit\n"
        "      penchant plan NAME                  memory and time on this machine"
    )


def migrate(file: Path, out: Path | None, tool: str | None, devices: int | None) -> None:
    """Run `penchant migrate`."""
    if out is not None and out.exists():
        raise UsageError("this file exists already", where=str(out), fix="Choose another --out.")
    migration = migrate_file(file, tool=tool, devices=devices)
    text = migration_text(migration, file.name)
    if out is None:
        sys.stdout.write(text)
    else:
        _write(out, text)
    _show(migration, file=sys.stderr if out is None else sys.stdout)
    recipe = out or "mine.yaml"
    print(
        f"\nRead as  a configuration of {migration.dialect.tool}\nRecipe   {out or 'on standard output'}\n"
        f"Next     {migration.prepare}\n"
        f"         penchant plan {recipe}\n"
        f"         penchant train {recipe} --data data/mine --out runs/mine",
        file=sys.stderr if out is None else sys.stdout,
    )


def _plain(recipe: Listed) -> dict[str, object]:
    return {
        "name": recipe.name,
        "model": recipe.model,
        "trained": recipe.trained,
        "loss": recipe.loss,
        **asdict(recipe.header),
    }


def _table(found: list[Listed]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it is", ratio=1)
    table.add_column("starts from; trains; loss; memory", ratio=1, overflow="fold")
    for recipe in found:
        memory = recipe.header.memory.partition(",")[0]
        facts = "\n".join((recipe.model, recipe.trained, recipe.loss, memory))
        table.add_row(Text(recipe.name, style="bold"), Text(recipe.header.sentence), Text(facts))
    return table


def _show(migration: Migration, file: TextIO) -> None:
    console = Console(file=file, soft_wrap=False, highlight=False)
    for title, notes in migration.groups():
        table = Table(title=f"\n{title}", title_justify="left", box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for note in notes:
            table.add_row(Text(printable(note.key)), Text(printable(note.text)))
        console.print(table)
    console.print(Text("\nIn every run:", style="italic"))
    for text in migration.dialect.always:
        console.print(Text(f"  {text}"))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskError(f"the recipe cannot be written ({error.strerror})", where=str(path)) from error
