"""`penchant export`: the order of things, from a finished policy to a folder that was proven, and to the Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import penchant
from penchant.data.atomic import tidy, write_json
from penchant.errors import ModelError, PenchantError, UsageError
from penchant.models.load import LoadedModel, load_model
from penchant.models.save import whole_folder
from penchant.reporting.model_card import ExportFacts, model_card
from penchant.workflow.export.asked import Form, Policy, asked_check, asked_form, default_folder, find_policy
from penchant.workflow.export.consumers import Opened, open_adapter, open_folder, open_gguf
from penchant.workflow.export.llama_cpp_proof import prove_with_llama_cpp
from penchant.workflow.export.make import check_room, gguf_name, make_files
from penchant.workflow.export.passages import Passages, choose_passages
from penchant.workflow.export.proof import (
    SAME_BYTES,
    UNMERGED,
    Bounds,
    Proof,
    gguf_bounds,
    parameters_as_rounded,
    prove,
    same_parameters,
    unopened,
)
from penchant.workflow.export.push import Push, asked_push, files_to_push, push_folder
from penchant.workflow.reporter import Advance, Reporter
from penchant.workflow.stopping import Stopper, stoppable_progress

PROOF, CARD, UNPROVEN = "proof.json", "README.md", "UNPROVEN.txt"
_PAIRS = 16


@dataclass(frozen=True)
class Asked:
    """What `penchant export` was asked for.

    Attributes:
        source: A run directory, a stage of `align`, or a model folder.
        to: The form, see `penchant.workflow.export.asked.FORMS`.
        quant: The number format of GGUF and Ollama, if not q8_0.
        out: The folder to write, if not the default one.
        overwrite: Whether a folder that is there may be replaced.
        push: USER/NAME on the Hub, if it is to be sent there.
        public: Whether everybody may read it there.
        dry_run: Whether only the list of files to send is wanted.
        pairs: How many held-out pairs are compared.
        check: A further reader that is to open it, see `penchant.workflow.export.asked.CHECKS`.
    """

    source: Path
    to: str
    quant: str | None = None
    out: Path | None = None
    overwrite: bool = False
    push: str | None = None
    public: bool = False
    dry_run: bool = False
    pairs: int = _PAIRS
    check: str | None = None


def export(asked: Asked, *, reporter: Reporter | None = None, stopper: Stopper | None = None) -> dict[str, Any]:
    """Write an export, open it as its users will, compare it with the policy, and send it if that was asked for.

    A folder that is there already and was proven is pushed as it is, when its files are still those of its proof.

    Returns:
        `out`, `form`, `quantisation`, `files` (name, bytes), `proof` (see `proof.json`), `notes`, `push`.

    Raises:
        UsageError: Something that was asked for cannot be, or is not installed; nothing was done.
        ModelError: The model cannot be opened or not be written in this form; or the proof failed: the folder then
            lies beside `out`, its name ends with -unproven, and UNPROVEN.txt in it says what differs.
        DiskError: There is no room or no permission; nothing is left behind.
        PenchantError: The Hub did not take it; the export is whole.
    """
    reporter, stopper = reporter or Reporter(), stopper or Stopper()
    form = asked_form(asked.to, asked.quant)
    asked_check(asked.check, form)
    push = asked_push(asked.push, public=asked.public, dry_run=asked.dry_run)
    policy = find_policy(asked.source, form)
    out = asked.out or default_folder(asked.source, form)
    _check_place(out, policy)
    if out.exists() and not asked.overwrite:
        if push is None:
            raise UsageError(
                "there is something here already", where=str(out), fix="Give --overwrite, or choose another --out."
            )
        found = _proven(out, form)
        reporter.note(f"Pushing {out} as it is: proven, and its files are those of its proof.")
    else:
        found = _make(asked, policy, form, out, reporter, stopper)
    return {**found, "push": _pushed(out, push)}


def _make(
    asked: Asked, policy: Policy, form: Form, out: Path, reporter: Reporter, stopper: Stopper
) -> dict[str, Any]:
    loaded = load_model(str(policy.folder))
    check_room(policy, loaded, form, out)
    compared = choose_passages(policy.record, loaded.chat, pairs=asked.pairs)
    if out.parent.is_dir():
        tidy(out.parent)
    place = out
    with whole_folder(out, renamed=lambda: place) as folder:
        notes = make_files(policy, loaded, form, folder, reporter)
        stopper.check()
        with stoppable_progress(reporter, stopper, "Proving it", len(compared.passages)) as done:
            proof = _prove(policy, loaded, form, folder, compared, done)
        if asked.check is not None and form.quantisation is not None and proof.passed:
            file = folder / gguf_name(policy, form)
            with stoppable_progress(reporter, stopper, f"Asking {asked.check}", len(compared.passages)) as done:
                further = prove_with_llama_cpp(loaded, file, compared, form.quantisation, done)
            proof = replace(proof, also=(further,))
        if not proof.passed:
            place = _beside(out)
            (folder / UNPROVEN).write_text(
                "\n".join(["This export differs from the policy.", *proof.failures, ""])
            )
        facts = _facts(form, policy, proof, notes)
        (folder / CARD).write_text(model_card(policy.record, name=policy.name, export=facts), encoding="utf-8")
        files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
        write_json(
            folder / PROOF, {**_head(form), **proof.as_dict(), "notes": notes + list(proof.notes), "files": files}
        )
    if not proof.passed:
        raise ModelError(
            f"the export is not the policy. {'; '.join(proof.failures)}",
            where=str(place),
            fix=f"Do not use it. What differs stands in {UNPROVEN} and {PROOF} there.",
        )
    return _result(out, form, json.loads((out / PROOF).read_text(encoding="utf-8")))


def _prove(
    policy: Policy, loaded: LoadedModel, form: Form, folder: Path, compared: Passages, done: Advance
) -> Proof:
    reader, bounds = _reader(policy, form)
    try:
        opened = reader(folder)
    except PenchantError:
        raise
    except Exception as error:  # a reader fails at a file that is wrong in whatever way it likes
        return unopened(f"its reader ({type(error).__name__})", compared, bounds, error)
    if form.quantisation is not None:
        weights = parameters_as_rounded(loaded, opened.model, form.quantisation)
    else:
        weights = None if form.name == "adapter" else same_parameters(loaded, opened.model)
    return prove(loaded, opened, compared, bounds, weights=weights, on_passage=done)


def _reader(policy: Policy, form: Form) -> tuple[Callable[[Path], Opened], Bounds]:
    """Who opens such an export, and what counts as rounding then."""
    if form.quantisation is not None:
        file = gguf_name(policy, form)
        return lambda folder: open_gguf(folder / file), gguf_bounds(form.quantisation)
    return (open_adapter, UNMERGED) if form.name == "adapter" else (open_folder, SAME_BYTES)


def _check_place(out: Path, policy: Policy) -> None:
    """Refuse to write over the policy itself."""
    mine, target = policy.folder.resolve(), out.resolve()
    if target == mine or target in mine.parents or (policy.adapter and target == policy.adapter.resolve()):
        raise UsageError("the policy itself is there", where=str(out), fix="Choose another --out.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / PROOF).is_file())):
        raise UsageError("there is something here that is no export", where=str(out), fix="Choose another --out.")


def _beside(out: Path) -> Path:
    number, found = 1, out.with_name(f"{out.name}-unproven")
    while found.exists():
        number += 1
        found = out.with_name(f"{out.name}-unproven-{number}")
    return found


def _head(form: Form) -> dict[str, Any]:
    kind = None if form.quantisation is None else form.quantisation.name
    return {"penchant": penchant.__version__, "form": form.name, "quantisation": kind}


def _facts(form: Form, policy: Policy, proof: Proof, notes: list[str]) -> ExportFacts:
    return ExportFacts(
        form=form.name,
        quantisation=None if form.quantisation is None else form.quantisation.name,
        file=None if form.quantisation is None else gguf_name(policy, form),
        passed=proof.passed,
        opened_by=" and ".join(each.opened_by for each in (proof, *proof.also)),
        compared_on=proof.compared_on,
        checks=tuple(
            (check.name if each is proof else f"{check.name}, {each.opened_by}", check.passed, check.detail)
            for each in (proof, *proof.also)
            for check in each.checks
        ),
        tokens=0 if proof.differences is None else proof.differences.tokens,
        greedy_equal=0 if proof.differences is None else proof.differences.greedy_equal,
        notes=(*notes, *proof.notes),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _proven(out: Path, form: Form) -> dict[str, Any]:
    """What an earlier export came to, if its proof passed and its files are still those that were proven."""
    try:
        proof = json.loads((out / PROOF).read_text(encoding="utf-8"))
        same = {path.name: _digest(path) for path in sorted(out.iterdir()) if path.name != PROOF} == proof["files"]
        proven = proof["passed"] is True and {key: proof[key] for key in _head(form)} == _head(form)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"its {PROOF} cannot be read", where=str(out), fix="Give --overwrite.") from error
    if not (same and proven):
        raise UsageError(
            "what is here is no longer what was proven, or in another form",
            where=str(out),
            fix="Give --overwrite to make it anew.",
        )
    return _result(out, form, proof)


def _result(out: Path, form: Form, proof: Mapping[str, Any]) -> dict[str, Any]:
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    head = _head(form)
    return {"out": str(out), **head, "files": files, "proof": dict(proof), "notes": list(proof["notes"])}


def _pushed(out: Path, push: Push | None) -> dict[str, Any] | None:
    if push is None:
        return None
    files = [path.name for path in files_to_push(out)]
    told = {"repository": push.repository, "public": push.public, "files": files}
    if push.dry_run:
        return {**told, "address": None}
    return {**told, "address": push_folder(out, push)}
