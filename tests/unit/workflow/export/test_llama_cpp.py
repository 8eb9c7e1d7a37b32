"""llama.cpp itself opens an export; what needs its binding, an extra, is slow, and skipped where that is not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import torch
from tests.gguf_models import gguf_model, save_gguf_model

from penchant.errors import ModelError, UsageError
from penchant.models.gguf_export.quantisation import QUANTISATIONS
from penchant.models.load import load_model
from penchant.workflow.export import llama_cpp as llama_cpp_module
from penchant.workflow.export.export import Asked, export
from penchant.workflow.export.llama_cpp import LlamaCpp
from penchant.workflow.export.llama_cpp_proof import divergence, llama_cpp_bounds, prove_with_llama_cpp
from penchant.workflow.export.passages import choose_passages

needs_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="the extra `llamacpp` is not installed"
)


def test_what_cannot_be_asked_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for to, check, words in (
        ("gguf", "lama.cpp", 'Did you mean "llama.cpp"'),
        ("gguf", "vllm", "Known: llama.cpp"),
        ("hf", "llama.cpp", "goes with --to gguf or ollama"),
    ):
        with pytest.raises(UsageError, match=words):
            export(Asked(tmp_path, to, check=check))
    monkeypatch.setattr(
        llama_cpp_module, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    )
    with pytest.raises(UsageError, match=r"penchant\[llamacpp\]"):
        export(Asked(tmp_path, "gguf", check="llama.cpp"))


def test_what_it_does_not_name_counts_as_one() -> None:
    """The whole divergence where all is named; never more where something is left out, and zero of equals."""
    torch.manual_seed(0)
    mine, theirs = torch.log_softmax(torch.randn(2, 50), dim=-1)
    whole = float((mine.exp() * (mine - theirs)).sum())
    order = theirs.argsort(descending=True).tolist()
    named = [{index: float(theirs[index]) for index in order[:count]} for count in (50, 20, 1)]
    found = [float(divergence(mine, one)) for one in named]
    assert found[0] == pytest.approx(whole, rel=1e-5)
    assert found[0] > found[1] > found[2] > 0
    assert float(divergence(theirs, named[1])) == pytest.approx(0, abs=1e-5)


class Answers:
    """llama.cpp's server, as far as it is asked; `told` are its log-probabilities, the largest first."""

    def __init__(self, told: list[tuple[int, float]] | None, status: int = 200) -> None:
        self.told, self.status, self.counts = told, status, []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        found: Any = {
            "/props": {"bos_token": "<s>", "eos_token": "</s>"},
            "/v1/models": {"data": [{"meta": {"n_vocab": 2000}}]},
            "/tokenize": {"tokens": [7]},
        }.get(request.url.path)
        if request.url.path != "/completion":
            return httpx2.Response(200, json=found)
        count = json.loads(request.content)["n_probs"]
        self.counts.append(count)
        tops = [{"id": index, "logprob": value} for index, value in (self.told or ())[:count]]
        return httpx2.Response(
            self.status, json={"completion_probabilities": [{"top_logprobs": tops}]} if tops else {"error": "no"}
        )


def opened(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> LlamaCpp:
    monkeypatch.setattr(llama_cpp_module.importlib.metadata, "version", lambda name: "1")
    return LlamaCpp(httpx2.Client(base_url="http://x", transport=httpx2.MockTransport(answers)))


def test_the_whole_vocabulary_is_asked_for_when_the_wanted_token_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers([(index, -float(index)) for index in range(2000)])
    server = opened(answers, monkeypatch)
    assert len(server.next_token([1, 2], 999)) == 1000
    assert server.next_token([1, 2], 1500)[1500] == -1500
    assert answers.counts == [1000, 1000, 2000]
    for broken, words in ((Answers(None), "told no probabilities"), (Answers(None, 400), "refused")):
        with pytest.raises(ModelError, match=words):
            opened(broken, monkeypatch).next_token([1], 2)


@pytest.mark.slow
@needs_llama_cpp
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("Llama", {"tied": True}),
        ("Llama", {"cut": "smollm"}),
        ("Llama", {"cut": "llama-bpe"}),
        ("Mistral", {}),
        ("Qwen2", {"cut": "qwen2"}),
        ("Qwen3", {"cut": "qwen2"}),
    ],
)
def test_llama_cpp_opens_every_family(tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
    folder = save_gguf_model(tmp_path / "m", family, **settings)
    found = export(Asked(folder, "gguf", "f32", tmp_path / "out", pairs=1, check="llama.cpp"))
    [further] = json.loads((tmp_path / "out" / "proof.json").read_text())["also"]
    assert further["opened_by"].startswith("llama.cpp (xllamacpp ")
    assert all(check["passed"] for check in further["checks"])
    assert [check["name"] for check in further["checks"]] == [
        "token ids",
        "chat template",
        "special tokens",
        "log-probabilities",
    ]
    assert 0 < further["differences"]["kl"] < 1e-4  # fp16 keys and values; the file itself is exact
    assert found["proof"]["also"] == [further]
    assert "and llama.cpp (xllamacpp" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
@needs_llama_cpp
def test_a_fault_is_found_by_llama_cpp(tmp_path: Path) -> None:
    """A file of other weights fails by its log-probabilities alone; a torn one is told as llama.cpp tells it."""
    folder = save_gguf_model(tmp_path / "m", "Llama", tied=True)
    policy = load_model(str(folder))
    compared = choose_passages(None, policy.chat, pairs=1)
    file = next(Path(export(Asked(folder, "gguf", "q8_0", tmp_path / "out", pairs=1))["out"]).glob("*.gguf"))
    other = gguf_model("Llama", tied=True)
    with torch.no_grad():
        other.model.get_parameter("model.layers.1.mlp.down_proj.weight").mul_(-20)
    proof = prove_with_llama_cpp(other, file, compared, QUANTISATIONS["q8_0"])
    assert [check.name for check in proof.checks if not check.passed] == ["log-probabilities"]
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(file.read_bytes()[:5000])
    proof = prove_with_llama_cpp(policy, torn, compared, QUANTISATIONS["q8_0"])
    assert [check.name for check in proof.checks] == ["opened"]
    assert "does not open it" in proof.checks[0].detail


def test_bounds_leave_room_for_what_llama_cpp_rounds_itself() -> None:
    assert llama_cpp_bounds(QUANTISATIONS["f32"]).kl == pytest.approx(1e-3, rel=0.01)
    assert llama_cpp_bounds(QUANTISATIONS["q8_0"]).kl == pytest.approx(0.101)
