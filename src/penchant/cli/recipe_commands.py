"""`penchant recipes` and `penchant migrate`: what is packaged, and what becomes of another tool's file."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penchant.cli.console import printable
from penchant.cli.working import say_next
from penchant.errors import DiskError, UsageError
from penchant.recipes import recipe_text
from penchant.recipes.account import Migration, migration_text
from penchant.recipes.listing import Listed, listing
from penchant.recipes.migration import migrate_file


def recipes(name: str | None, *, quiet: bool, as_json: bool) -> None:
    """Run `penchant recipes`: list them, or print the YAML of one."""
    if name is not None:
        text = recipe_text(name)
        print(json.dumps({"name": name, "yaml": text}) if as_json else text, end="\n" if as_json else "")
        return
    found = listing()
    if as_json:
        print(json.dumps([_plain(recipe) for recipe in found]))
        return
    Console(soft_wrap=False).print(_table(found))
    say_next(
        "Next     penchant recipes NAME > mine.yaml    its YAML, with launch lines and notes, to read or to edit",
        "         penchant plan NAME                  memory and time on this machine",
        quiet=quiet,
    )


def migrate(
    file: Path, out: Path | None, tool: str | None, devices: int | None, *, quiet: bool, as_json: bool
) -> None:
    """Run `penchant migrate`."""
    if out is not None and out.exists():
        raise UsageError("this file exists already", where=str(out), fix="Choose another --out.")
    migration = migrate_file(file, tool=tool, devices=devices)
    text = migration_text(migration, file.name)
    if out is not None:
        _write(out, text)
    elif not as_json:
        sys.stdout.write(text)
    if as_json:
        print(json.dumps(_plain_migration(migration, text, out)))
        return
    said = sys.stderr if out is None else sys.stdout
    _show(migration, file=said)
    recipe = out or "mine.yaml"
    with contextlib.redirect_stdout(said):
        print(f"\nRead as a configuration of {migration.dialect.tool}.")
        say_next(
            f"Recipe   {out or 'on standard output'}",
            f"Next     {migration.prepare}",
            f"         penchant plan {recipe}",
            f"         penchant train {recipe} --data data/mine --out runs/mine",
            quiet=quiet,
        )


def _plain_migration(migration: Migration, text: str, out: Path | None) -> dict[str, object]:
    groups = {
        title: [{"key": note.key, "text": note.text} for note in notes] for title, notes in migration.groups()
    }
    place = None if out is None else str(out)
    return {
        "tool": migration.dialect.tool,
        "recipe": place,
        "yaml": text,
        "keys": groups,
        "always": list(migration.dialect.always),
        "prepare": migration.prepare,
    }


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
