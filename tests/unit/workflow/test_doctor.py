"""What `penchant doctor` finds, and that a finding that needs mending ends it with 1."""

from __future__ import annotations

import importlib.metadata
import io
import json
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console
from typer.testing import CliRunner

from penchant.cli.doctor_view import fit, show_findings
from penchant.cli.main import app
from penchant.workflow import doctor
from penchant.workflow.doctor import Finding, disk_finding, examine, version_findings

NEEDS = ["torch<2.14,>=2.11", "jinja2>=3.1.6", 'trl>=1; extra == "bench"']


def states(**installed: str) -> dict[str, str]:
    return {finding.name: finding.state for finding in version_findings(NEEDS, installed)}


def test_versions_are_held_against_the_package_s_own_floors() -> None:
    assert states(torch="2.13.0+cpu", jinja2="3.1.6") == {"torch": "ok", "jinja2": "ok"}
    assert states(torch="2.10.0", jinja2="3.1.5") == {"torch": "error", "jinja2": "error"}
    assert states(torch="2.14.1", jinja2="4.0") == {"torch": "warning", "jinja2": "ok"}
    assert states(torch="2.13.0") == {"torch": "ok", "jinja2": "error"}
    assert states(torch="2.12.0.dev1", jinja2="3.1.6")["torch"] == "ok"


def test_what_is_wrong_comes_with_what_to_do() -> None:
    wrong = [one for one in version_findings(NEEDS, {"torch": "2.10.0"}) if one.state != "ok"]
    assert [one.name for one in wrong] == ["torch", "jinja2"]
    assert "2.10.0 is too old" in wrong[0].what
    assert all("pip install" in one.remedy for one in wrong)
    assert all(bool(one.remedy) == (one.state != "ok") for one in examine())


def test_the_list_of_versions_is_that_of_the_package() -> None:
    looked_at = {one.name for one in examine() if one.group == "versions"}
    lines = importlib.metadata.requires("penchant") or []
    needed = {Requirement(line).name for line in lines if "extra ==" not in line}
    assert looked_at == needed | {"Python"}
    assert {"torch", "transformers", "safetensors", "jinja2"} <= needed


def test_the_floors_are_those_that_security_asks_for() -> None:
    """Below them are known ways to run code from a file."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {Requirement(line).name: Requirement(line).specifier for line in project["dependencies"]}
    for name, unsafe in {
        "torch": "2.9.1",
        "transformers": "5.4.0",
        "safetensors": "0.7.0",
        "jinja2": "3.1.5",
        "gguf": "0.18.0",
        "datasets": "4.9.0",
        "PyYAML": "6.0.2",
    }.items():
        assert not declared[name].contains(unsafe), name


def test_a_full_or_closed_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_finding("cache", tmp_path / "not" / "there", "PENCHANT_CACHE").state in ("ok", "warning", "error")
    monkeypatch.setattr(doctor, "NO_DISK_BYTES", 2**62)
    monkeypatch.setattr(doctor, "LITTLE_DISK_BYTES", 2**62)
    full = disk_finding("cache", tmp_path, "PENCHANT_CACHE")
    assert (full.state, full.remedy) == ("error", "point PENCHANT_CACHE to a folder with room")

    def closed(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", closed)
    assert "cannot be written (Permission denied)" in disk_finding("runs", tmp_path, "here").what


def test_more_threads_than_cores_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(doctor, "_cores", lambda: 2)
    [found] = [one for one in examine() if (one.group, one.name) == ("processor", "threads")]
    assert (found.state, found.remedy) == ("warning", "export OMP_NUM_THREADS=2")


def test_a_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    assert "hf_canary" not in str(examine())
    assert any("HF_TOKEN is set" in one.what for one in examine())


def test_the_command_ends_with_one_when_something_needs_mending(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = Finding("a", "x", "ok", "fine"), Finding("a", "y", "error", "broken", "mend it")
    for findings, code in (([good], 0), ([good, bad], 1)):
        monkeypatch.setattr(doctor, "examine", lambda findings=findings: findings)
        told = CliRunner().invoke(app, ["doctor", "--json"])
        assert told.exit_code == code
        assert json.loads(told.stdout)["ok"] is (code == 0)
        assert [one["name"] for one in json.loads(told.stdout)["findings"]] == [one.name for one in findings]
        shown = CliRunner().invoke(app, ["doctor"])
        assert shown.exit_code == code
        assert ("mend it" in shown.stdout) == (code == 1)
        assert ("penchant demo" in shown.stdout) == (code == 0)


def test_the_page_names_errors_before_warnings_and_steers_no_terminal() -> None:
    stream = io.StringIO()
    findings = [
        Finding("a", "w", "warning", "slow", "hurry"),
        Finding("b", "e", "error", "\x1b[2Jbroken [bold]x[/]", "mend"),
    ]
    show_findings(findings, Console(file=stream, width=100))
    text = stream.getvalue()
    assert text.index("error: e: mend") < text.index("warning: w: hurry")
    assert "\x1b" not in text
    assert "[bold]x[/]" in text
    assert not fit(findings)
