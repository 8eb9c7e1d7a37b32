"""What `penchant doctor` finds, and that a finding that needs mending ends it with 1."""

from __future__ import annotations

import importlib.metadata
import io
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from rich.console import Console
from tests.tiny import tiny_llama, tiny_tokenizer
from typer.testing import CliRunner

from penchant.batching.pair_batch import Group
from penchant.cli.doctor_view import findings_block, fit, show_findings
from penchant.cli.main import app
from penchant.models import attention
from penchant.tokens.chat import chat_format
from penchant.workflow import doctor
from penchant.workflow.doctor import Finding, disk, examine, kernels, machine
from penchant.workflow.doctor.disk import disk_finding, save_finding
from penchant.workflow.doctor.environment import environment
from penchant.workflow.doctor.kernels import difference, kernel_finding, micro_step, rounding_finding
from penchant.workflow.doctor.machine import cpu_quota, memory_finding
from penchant.workflow.doctor.models import hub_finding, template_finding
from penchant.workflow.doctor.terminal import encoding_finding
from penchant.workflow.doctor.versions import version_findings

NEEDS = ["torch<2.14,>=2.11", "jinja2>=3.1.6", 'trl>=1; extra == "bench"']


def states(**installed: str) -> dict[str, str]:
    return {finding.name: finding.state for finding in version_findings(NEEDS, installed)}


def test_versions_are_held_against_the_package_s_own_floors() -> None:
    assert states(torch="2.13.0+cpu", jinja2="3.1.6") == {"torch": "ok", "jinja2": "ok"}
    assert states(torch="2.10.0", jinja2="3.1.5") == {"torch": "error", "jinja2": "error"}
    assert states(torch="2.14.1", jinja2="4.0") == {"torch": "warning", "jinja2": "ok"}
    assert states(torch="2.13.0") == {"torch": "ok", "jinja2": "error"}
    assert states(torch="2.12.0.dev1", jinja2="3.1.6")["torch"] == "ok"


GROUPS = [Group((5, 6, 7), ((8, 9, 2), (10, 2))), Group((5, 9), ((11, 12, 13, 2), (14, 15, 2)))]


@pytest.fixture(scope="module")
def examined() -> list[Finding]:
    """All findings of this machine, with a micro-step of a tiny model and a small trial save."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernels, "small_model", lambda device: tiny_llama(layers=2))
        patched.setattr(kernels, "random_groups", lambda: GROUPS)
        patched.setattr(disk, "TRIED_BYTES", 1 << 20)
        return examine()


def test_what_is_wrong_comes_with_what_to_do(examined: list[Finding]) -> None:
    wrong = [one for one in version_findings(NEEDS, {"torch": "2.10.0"}) if one.state != "ok"]
    assert [one.name for one in wrong] == ["torch", "jinja2"]
    assert "2.10.0 is too old" in wrong[0].what
    assert all("pip install" in one.remedy for one in wrong)
    assert all(bool(one.remedy) == (one.state != "ok") for one in examined)


def test_the_list_of_versions_is_that_of_the_package(examined: list[Finding]) -> None:
    looked_at = {one.name for one in examined if one.group == "versions"}
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


def test_a_micro_step_is_held_against_its_slow_twin() -> None:
    model = tiny_llama(layers=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = micro_step(model, "sdpa", "fp32", packed=False, groups=GROUPS)
    step = micro_step(model, "sdpa", "fp32", groups=GROUPS)
    assert step.loss == pytest.approx(0.6931472, abs=1e-6)
    assert difference(step, twin) < 1e-5
    found = kernel_finding(model, "sdpa", "fp32", step, twin)
    assert (found.state, found.name) == ("ok", "sdpa fp32 on cpu")
    assert all(bool((model.state_dict()[name] == value).all()) for name, value in before.items())
    name = max(twin.gradients, key=lambda one: float(twin.gradients[one].abs().max()))
    for off in (1.01, float("nan")):
        wrong = replace(step, gradients={**step.gradients, name: off * step.gradients[name]})
        found = kernel_finding(model, "sdpa", "fp32", wrong, twin)
        assert found.state == "error"
        assert "prefix_sharing=false" in found.remedy
        assert kernel_finding(model, "flex", "fp32", wrong, twin).state == "warning"
    still = replace(step, loss_after=step.loss)
    assert (
        "does not fall" in kernel_finding(model, "sdpa", "fp32", still, replace(twin, loss_after=step.loss)).what
    )


def test_what_bf16_brings_is_said() -> None:
    model = tiny_llama(layers=2)
    step = micro_step(model, "sdpa", "fp32", groups=GROUPS)
    assert "gains nothing" in rounding_finding(step, step).what
    rounded = replace(step, loss=step.loss * 1.001, seconds=tuple(each / 2 for each in step.seconds))  # type: ignore[arg-type] # three
    assert "2.0 x the speed, gradients and loss differ by 1e-03" in rounding_finding(rounded, step).what


def test_a_kernel_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(kernels, "small_model", lambda device: tiny_llama(layers=2))
    monkeypatch.setattr(kernels, "precisions", lambda device: ["fp32"])
    monkeypatch.setattr(kernels, "random_groups", lambda: GROUPS)
    monkeypatch.setattr(attention, "sdpa_attention", broken)
    [found] = kernels.kernels()
    assert found.state == "error"
    assert "RuntimeError: no kernel image is available" in found.what


def test_a_full_or_closed_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_finding("cache", tmp_path / "not" / "there", "PENCHANT_CACHE").state in ("ok", "warning", "error")
    monkeypatch.setattr(disk, "NO_DISK_BYTES", 2**62)
    monkeypatch.setattr(disk, "LITTLE_DISK_BYTES", 2**62)
    full = disk_finding("cache", tmp_path, "PENCHANT_CACHE")
    assert (full.state, full.remedy) == ("error", "export PENCHANT_CACHE=A_FOLDER_WITH_ROOM")

    def closed(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", closed)
    assert "cannot be written (Permission denied)" in disk_finding("runs", tmp_path, "here").what


def test_a_trial_save_leaves_nothing_and_finds_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SLOW_BYTES", 0)
    found = save_finding(tmp_path, 1 << 20)
    assert found.state == "ok"
    assert "1 MiB" in found.what
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(disk, "SLOW_BYTES", 2**62)
    assert save_finding(tmp_path, 1 << 20).state == "warning"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "flush_folder", full)
    found = save_finding(tmp_path, 1 << 20)
    assert (found.state, "No space left on device" in found.what) == ("error", True)
    assert list(tmp_path.iterdir()) == []


def test_more_threads_than_cores_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    [found] = machine.processor()
    assert (found.state, found.remedy) == ("warning", "export OMP_NUM_THREADS=2")


@pytest.mark.parametrize(("text", "cores"), [("max 100000", None), ("150000 100000", 2), ("20000 100000", 1)])
def test_a_container_s_share_of_the_cores_counts(tmp_path: Path, text: str, cores: int | None) -> None:
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(text)
    assert cpu_quota(tmp_path) == cores


def test_little_memory_is_said() -> None:
    assert memory_finding("memory", 8 << 30, 16 << 30).what == "8.0 GiB free of 16.0 GiB"
    assert "micro_batch_tokens" in memory_finding("memory", 1 << 30, None).remedy


def test_a_template_has_to_give_back_what_it_was_given() -> None:
    chat = chat_format(tiny_tokenizer())
    assert template_finding(chat, "chat template").state == "ok"
    tokenizer: Any = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("message['content']", "'hello'").replace(
        "message.content", "'hello'"
    )
    assert template_finding(chat_format(tokenizer), "chat template").state == "error"


def test_models_of_the_hub_are_named(tmp_path: Path) -> None:
    assert hub_finding(tmp_path / "none").what == "no models"
    for name in ("a--b", "c--d"):
        (tmp_path / f"models--{name}" / "snapshots" / "1").mkdir(parents=True)
    (tmp_path / "models--a--b" / "snapshots" / "1" / "config.json").write_text("{}")
    assert hub_finding(tmp_path).what == "a/b"


@pytest.mark.parametrize(
    ("encoding", "state"), [("utf-8", "ok"), ("UTF8", "ok"), ("cp1252", "warning"), (None, "warning")]
)
def test_a_stream_that_lacks_characters_is_said(encoding: str | None, state: str) -> None:
    assert encoding_finding(encoding).state == state


def test_keys_and_addresses_are_never_shown() -> None:
    variables = {
        "HF_TOKEN": "hf_canary",
        "OPENAI_API_KEY": "sk-canary",
        "https_proxy": "http://user:canary@proxy",
        "HF_HUB_OFFLINE": "1",
    }
    found = {one.name: one.what for one in environment(variables)}
    assert "canary" not in str(found)
    assert found == {"HF_TOKEN": "set", "OPENAI_API_KEY": "set", "HTTPS_PROXY": "set", "HF_HUB_OFFLINE": "1"}
    assert {one.name: one.what for one in environment({})} == {"HF_TOKEN": "not set", "OPENAI_API_KEY": "not set"}


def test_the_command_ends_with_one_when_something_needs_mending(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = Finding("a", "x", "ok", "fine"), Finding("a", "y", "error", "broken", "mend it")
    for findings, code in (([good], 0), ([good, bad], 1)):
        monkeypatch.setattr(doctor, "examine", lambda reporter, findings=findings: findings)
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


def test_the_block_to_paste_holds_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    findings = [
        Finding("versions", "torch", "ok", "2.13"),
        Finding("versions", "typer", "ok", "0.29"),
        Finding("disk", "runs", "warning", "/home/somebody/work: 3 GiB free", "tidy"),
    ]
    assert findings_block(findings).splitlines()[1:] == [
        "versions:",
        "  torch 2.13, typer 0.29",
        "disk:",
        "  warning: runs: ~/work: 3 GiB free",
    ]
    monkeypatch.setattr(doctor, "examine", lambda reporter: findings)
    told = CliRunner().invoke(app, ["doctor", "--block"])
    assert told.exit_code == 0
    assert told.stdout == findings_block(findings) + "\n"
    assert "Looking at this machine" in told.stderr
    assert CliRunner().invoke(app, ["doctor", "--block", "--quiet"]).stderr == ""
