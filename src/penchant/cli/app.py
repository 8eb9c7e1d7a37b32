"""What all verbs share: the application, the options that many of them have, and how a verb ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import penchant
from penchant.cli import completers
from penchant.errors import EXIT_BY_SIGNAL, EXIT_DEFECT, PenchantError

app = typer.Typer(
    name="penchant",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"penchant {penchant.__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Align a language model with human preferences (DPO), and see whether it worked."""


Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Change one value of the configuration.", autocompletion=completers.setting
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no hints, only the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result, or the error, as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Parallel = Annotated[
    str,
    typer.Option(
        "--parallel",
        metavar="MODE",
        help="How processes that torchrun started share the model: ddp, fsdp, or fsdp:N (groups of N).",
        autocompletion=completers.word_of("ddp", "fsdp", "fsdp:"),
    ),
]
AllowChange = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-change",
        metavar="A.B",
        help="With --resume: this harmless key may have changed.",
        autocompletion=completers.allowed_change,
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="TRACKER",
        help="Also send figures to trackio, tensorboard or wandb; several with commas.",
        autocompletion=completers.tracker,
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first rows of the data.")]


def run_verb(work: Callable[[], None], debug: bool, as_json: bool = False) -> None:
    """Do the work; an explained error becomes its message and exit code, any other says that it is a defect.

    With `as_json` standard output gets the error as well, as one object under `error`.
    """
    try:
        work()
        sys.stdout.flush()  # here, where a reader that is gone is no error
    except PenchantError as error:
        if debug:
            raise
        print(f"penchant{_which()}: {_printable(error)}", file=sys.stderr)  # it may repeat what stands in a row
        _say_as_json(as_json, error.exit_code, error.what, error.where, error.fix)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:  # before, after or outside of what stops at a safe point
        raise SystemExit(EXIT_BY_SIGNAL + signal.SIGINT) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if debug:
            raise
        print(f"penchant{_which()}: {_described_defect(error)}", file=sys.stderr)
        _say_as_json(as_json, EXIT_DEFECT, f"{type(error).__name__}: {error}", None, None)
        raise SystemExit(EXIT_DEFECT) from None


def fail_after_result(error: PenchantError) -> NoReturn:
    """End with an error whose result was printed before: it is said on standard error alone."""
    print(f"penchant: {_printable(error)}", file=sys.stderr)
    raise SystemExit(error.exit_code)


def _say_as_json(wanted: bool, code: int, what: str, where: str | None, fix: str | None) -> None:
    if wanted:
        print(json.dumps({"error": {"exit_code": code, "what": what, "where": where, "fix": fix}}))


def _described_defect(error: Exception) -> str:
    """What is wrong, where, and where its traceback is: a run's lies in its directory, any other in a new file."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    told = [note for note in getattr(error, "__notes__", ()) if "traceback" in note]
    where = told[0] if told else _kept_traceback(error)
    return (
        f"a defect of Penchant: {type(error).__name__}: {_printable(error)} "
        f"({Path(last.filename).name}:{last.lineno})\n  {where} Please report it; what was saved before is whole."
    )


def _kept_traceback(error: Exception) -> str:
    try:
        descriptor, name = tempfile.mkstemp(prefix="penchant-traceback-", suffix=".txt", text=True)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return "With --debug it shows its traceback."
    return f"Its traceback is in {name}."


def _which() -> str:
    """Which of several processes speaks: the first needs no name."""
    number = os.environ.get("RANK", "0")
    return "" if number == "0" else f" (process {number})"


def _printable(error: Exception) -> str:
    from penchant.cli.console import printable

    return printable(str(error))
