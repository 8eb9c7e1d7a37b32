"""Files, rows and names of strangers: nothing of theirs runs, leaves its folder or steers a terminal."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import pty
import select
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from tests.tiny import pair_rows, save_tiny, tiny_config, tiny_llama, write_rows
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.errors import PenchantError, UsageError
from penchant.models.load import load_model
from penchant.recipes import load_recipe
from penchant.recipes.stages import load_stages
from penchant.workflow.doctor import kernels
from penchant.workflow.train import train_run

ROOT = Path(__file__).parents[2]
CANARY = "a canary that no file, page or line may hold"


class Payload:
    """Unpickled, it leaves a file in the working directory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("canary", "w")


def bare_pickle() -> bytes:
    return pickle.dumps({"model.norm.weight": Payload()})


def torch_zip() -> bytes:
    stream = io.BytesIO()
    torch.save({"model.norm.weight": Payload()}, stream)
    return stream.getvalue()


def old_torch() -> bytes:
    stream = io.BytesIO()
    torch.save({"model.norm.weight": Payload()}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def tar() -> bytes:
    """torch before 0.1.10 wrote such files; CVE-2025-32434 was in how they are read."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(bare_pickle())
            archive.addfile(info, io.BytesIO(bare_pickle()))
    return stream.getvalue()


def plain_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("archive/data.pkl", "archive/version", "archive/constants.pkl", "../../canary"):
            archive.writestr(name, bare_pickle())
    return stream.getvalue()


def two_in_one() -> bytes:
    """A header of safetensors, and a zip archive behind it."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 4 + torch_zip()


CORPUS: list[Callable[[], bytes]] = [bare_pickle, torch_zip, old_torch, tar, plain_zip, two_in_one]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which a payload would leave its file."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_payload_works_where_it_is_let(empty: Path) -> None:
    """Or the tests below would prove nothing."""
    # the test's own harmless payload, which makes a file here: the corpus must be seen to bite once
    pickle.loads(bare_pickle())["model.norm.weight"].close()
    assert (empty / "canary").exists()


@pytest.mark.parametrize("content", CORPUS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "weights.pth", "weights.pt", "w.gguf"])
def test_no_model_file_runs_code(
    tmp_path: Path, empty: Path, content: Callable[[], bytes], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    source = save_tiny(tmp_path / "m", tiny_llama(layers=1))
    (source / "model.safetensors").unlink()
    (source / name).write_bytes(content())
    whole = name.endswith((".pth", ".pt"))
    if whole:
        save_tiny(tmp_path / "architecture", tiny_llama(layers=1))
    with pytest.raises(PenchantError):
        load_model(
            str(source / name if whole or name.endswith(".gguf") else source),
            architecture=str(tmp_path / "architecture") if whole else None,
        )
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("content", CORPUS)
def test_no_file_of_a_checkpoint_runs_code(tmp_path: Path, empty: Path, content: Callable[[], bytes]) -> None:
    """Every file of it is replaced, and the sums with them, as whoever can write there would."""
    config = tiny_config(save_tiny(tmp_path / "m"), train={"max_steps": 3, "checkpoint_every": 1})
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(8))
    run = train_run(config, data, tmp_path / "run").run
    shutil.rmtree(run / "model")
    (run / "eval" / "training.json").unlink(missing_ok=True)
    for checkpoint in (run / "checkpoints").iterdir():
        replace_contents(checkpoint, content())
    with pytest.raises((PenchantError, SafetensorError)):
        train_run(config, data, run, resume=True)
    assert list(empty.iterdir()) == []


def replace_contents(checkpoint: Path, content: bytes) -> None:
    """Replace every tensor file, and its sum wherever one stands."""
    manifest = checkpoint / "manifest.json"
    if not manifest.is_file():
        return
    text = manifest.read_text(encoding="utf-8")
    for file in checkpoint.rglob("*.safetensors"):
        before = hashlib.sha256(file.read_bytes()).hexdigest()
        text = text.replace(before, hashlib.sha256(content).hexdigest())
        text = text.replace(f" {file.stat().st_size}", f" {len(content)}")
        file.write_bytes(content)
    manifest.write_text(text, encoding="utf-8")


WATCHED = """
import sys
from pathlib import Path

def no_pickle(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"a pickle was read: {arguments}")
    if event == "import" and arguments[0].split(".")[0] == "kernels":
        raise RuntimeError("kernels was imported")
    if event == "socket.connect":
        raise RuntimeError(f"a connection was made: {arguments[1:]}")

folder = Path(sys.argv[1])
from tests.tiny import StopAfter, pair_rows, save_tiny, tiny_config, write_rows
from penchant.errors import Stopped
from penchant.reporting.report import write_report
from penchant.workflow.evaluate import evaluate, subject_of, write_evaluation
from penchant.workflow.stopping import Stopper
from penchant.workflow.train import train_run

save_tiny(folder / "m")
data = write_rows(folder / "pairs.jsonl", pair_rows(8))
config = tiny_config(folder / "m", train={"max_steps": 4, "checkpoint_every": 1})
sys.addaudithook(no_pickle)
stopper = Stopper()
try:
    train_run(config, data, folder / "run", stopper=stopper, reporter=StopAfter(stopper, 2))
except Stopped:
    pass
else:
    raise SystemExit("it was not stopped")
train_run(config, data, folder / "run", resume=True)
subject = subject_of(str(folder / "run"), None, [])
figures, rows = evaluate(subject, data=data)
write_evaluation(folder / "run", figures, rows)
write_report(folder / "run")
import collections, pickle
try:  # the run above read none; this one, of the program's own making, shows that the hook would have noticed
    pickle.loads(pickle.dumps(collections.OrderedDict()))
except RuntimeError:
    print("watched to the end")
"""


def test_a_whole_run_reads_no_pickle(tmp_path: Path) -> None:
    """Training, its interruption and resumption, evaluation and report, under a hook that nothing can take off."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("watched to the end\n")
    written = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert [
        name for name in written if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin", ".metadata"))
    ] == []


NAMES = [
    "../../out",
    "/tmp/out",
    "a/b",
    "..",
    ".",
    "a\x00b",
    "~/out",
    "C:\\out",
    "\\\\?\\out",
    "CON",
    "x" * 5000,
    "",
]


def test_names_of_rows_never_become_paths(tmp_path: Path, empty: Path) -> None:
    """Ids, clusters and sources that would leave the folder: the same files are written as for plain ones."""

    def files(name: str, ids: list[str]) -> set[str]:
        rows = pair_rows(24)
        for place, row in enumerate(rows):
            name_of_row = ids[place] if place < len(ids) else f"{place}{ids[place % len(ids)]}"
            row["id"] = row["cluster"] = row["source"] = name_of_row
        top = tmp_path / name
        top.mkdir()
        data = write_rows(top / "pairs.jsonl", rows)
        config = tiny_config(save_tiny(top / "m"), train={"max_steps": 2, "checkpoint_every": 1})
        train_run(config, data, top / "run")
        invoked(0, "prepare", "local", "--source", str(data), "--out", str(top / "data"), "--test-fraction", "0.5")
        return {str(path.relative_to(top)) for path in top.rglob("*")}

    before = {path for path in tmp_path.iterdir()}
    assert files("plain", ["row"]) == files("hostile", [name for name in NAMES if name])
    assert {path for path in tmp_path.iterdir()} - before == {tmp_path / "plain", tmp_path / "hostile"}
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_names_of_recipes_and_stages_never_become_paths(tmp_path: Path, empty: Path, name: str) -> None:
    with pytest.raises(UsageError):
        load_recipe(name)
    recipe = {"stages": {name: {"objective": {"loss": "sft"}}}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(UsageError, match=r"no name for a stage|not YAML"):
        load_stages(str(tmp_path / "r.yaml"))
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("stem", ["..", "...", "-", "a b", "x" * 200])
def test_names_of_gguf_files_stay_in_the_cache(
    tmp_path: Path, empty: Path, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penchant.models import load

    def convert(gguf: Path, target: Path) -> None:
        save_tiny(target, tiny_llama(layers=1))

    monkeypatch.setattr(load, "convert_gguf", convert)
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    (tmp_path / f"{stem}.gguf").write_bytes(b"GGUF")
    found = Path(load.resolve_model(str(tmp_path / f"{stem}.gguf"))).resolve()
    assert found.parent == (tmp_path / "cache" / "gguf").resolve()
    assert list(empty.iterdir()) == []


SECRETS = ("HF_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "WANDB_API_KEY", "PENCHANT_JUDGE_KEY", "AWS_SECRET")


def test_keys_in_the_environment_are_written_nowhere(
    tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, evaluation, report, plan, doctor, an explained error and a crash: every byte is searched."""
    for name in SECRETS:
        monkeypatch.setenv(name, f"sk-{name}-{CANARY}")
    monkeypatch.setenv("PENCHANT_CACHE", str(tmp_path / "cache"))
    save_tiny(tmp_path / "m", tiny_llama(layers=2))
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(12))
    config = {
        "model": {"path": str(tmp_path / "m")},
        "data": {"max_tokens": 96},
        "train": {"batch_pairs": 4, "max_steps": 2, "checkpoint_every": 1},
        "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    recipe, run = str(tmp_path / "r.yaml"), str(tmp_path / "run")
    train = ["train", recipe, "--data", str(data), "--out"]
    monkeypatch.setattr(kernels, "small_model", lambda device: tiny_llama(layers=2))
    monkeypatch.setattr(kernels, "_VOCABULARY", 259)
    said = [
        invoked(0, *train, run),
        invoked(0, "eval", run, "--data", str(data)),
        invoked(0, "report", run),
        invoked(0, "plan", recipe, "--data", str(data)),
        invoked(2, *train, run),
        CliRunner().invoke(app, ["doctor", "--json"]).output,
    ]

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(torch.autograd, "backward", crash)
    said.append(invoked(1, *train, str(tmp_path / "crashed")))
    assert "a defect of Penchant" in said[-1]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not any(CANARY.encode() in content for content in written)
    assert not any(CANARY in text for text in said)


def invoked(code: int, *words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, done.output
    return done.output


STEERS = (
    "\x1b[2J\x1b]8;;http://evil.example\x07link\x1b]8;;\x07\x1b]52;c;aGk=\x07\x9b31m\u202e\x07\x08"
    "[bold red]markup[/]"
)


def on_a_terminal(*words: object) -> tuple[int, str]:
    """Run the command with a terminal of its own and return its exit code and every character that reached it."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-m", "penchant", *map(str, words)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        close_fds=True,
    ) as process:
        os.close(follower)
        told = b""
        while select.select([leader], [], [], 120)[0]:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            told += part
        process.wait(timeout=120)
    os.close(leader)
    return process.returncode, told.decode("utf-8", "replace")


@pytest.mark.parametrize("command", ["inspect", "check", "error"])
def test_text_of_rows_steers_no_terminal(tmp_path: Path, command: str) -> None:
    """Colours are Penchant's own; what a row holds is shown as symbols, its markup as it stands."""
    rows = [{key: f"{value}{STEERS}" for key, value in row.items()} for row in pair_rows(6)]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    if command == "inspect":
        code, told = on_a_terminal("inspect", data)
        assert code == 0, told
        assert "[bold red]markup[/]" in told.replace("\r\n", "")
    elif command == "check":
        code, told = on_a_terminal("inspect", data, "--check", "--strict")
        assert code in (0, 3), told
    else:
        write_rows(data, [{f"prom{STEERS}": "a", "chosen": "b", "rejected": "c"}])
        code, told = on_a_terminal("inspect", data)
        assert code == 3, told
        assert "markup" in told
    for steering in ("\x1b[2J", "\x1b]", "\x9b", "\u202e", "\x07", "\x08"):
        assert steering not in told, repr(steering)


def test_a_readable_model_is_what_the_corpus_replaces(tmp_path: Path) -> None:
    """The refusals above are of what was put there, not of the folder."""
    source = save_tiny(tmp_path / "m", tiny_llama(layers=1))
    assert set(load_file(source / "model.safetensors")) <= set(load_model(str(source)).model.state_dict())
