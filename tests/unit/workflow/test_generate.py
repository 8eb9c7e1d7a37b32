"""Asking a model, or a run, one question or a file of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import save_tiny, tiny_llama, write_rows
from tests.together import in_processes

from penchant.endpoint.client import Endpoint
from penchant.errors import DataError, ModelError, Stopped
from penchant.types import Prompt, Sampling, Turn
from penchant.workflow import generate as generation
from penchant.workflow.answer_file import about_path
from penchant.workflow.generate import Wanted, ask, generate_file, with_system
from penchant.workflow.speaker import Speaker, load_speaker, speaker_config
from penchant.workflow.stopping import Stopper

FP32 = ["engine.precision=fp32", "engine.threads=1", "engine.device=cpu"]
DRAWN = Sampling(temperature=1.0, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    save_tiny(folder / "start", tiny_llama(layers=2))
    save_tiny(folder / "run" / "model", tiny_llama(layers=2, seed=1))
    save_tiny(folder / "transcripts" / "model", tiny_llama(layers=2, seed=1))
    text = "data: {format: transcript}\nrun: {device: cpu}\n"
    (folder / "transcripts" / "config.yaml").write_text(text, encoding="utf-8")
    rows = [{"id": f"q{n}", "prompt": "Why? " * (n % 4) + str(n)} for n in range(11)]
    write_rows(folder / "prompts.jsonl", rows)
    return folder


def speaker(path: Path) -> Speaker:
    return load_speaker(str(path), speaker_config(str(path), FP32))


def said(path: Path, question: str = "Why?", **wanted: Any) -> list[dict[str, Any]]:
    system = wanted.pop("system", None)
    return ask(speaker(path), question, Wanted(**{"max_new_tokens": 8, **wanted}), system=system)


def test_a_run_is_asked_for_its_model(folder: Path) -> None:
    direct = said(folder / "run" / "model")
    assert said(folder / "run") == direct
    assert said(folder / "start") != direct


def test_a_run_is_asked_in_the_format_that_it_was_trained_in(folder: Path) -> None:
    """The same model as a run of transcripts: another prompt, and so another answer."""
    transcripts = speaker(folder / "transcripts")
    assert transcripts.format == "transcript"
    ids = transcripts.chat.prompt_ids([Turn("user", "Why?")])
    assert transcripts.loaded.tokenizer.decode(list(ids)).endswith("\n\nHuman: Why?\n\nAssistant:")
    assert said(folder / "transcripts") != said(folder / "run")


def test_an_answer_says_how_long_it_is_and_whether_it_ended(folder: Path) -> None:
    [answer] = said(folder / "start", max_new_tokens=3)
    assert set(answer) == {"text", "finished", "tokens"}
    assert answer["text"] == answer["text"].strip()
    assert answer["tokens"] <= 3
    assert answer["finished"] is (answer["tokens"] < 3)


def test_samples_follow_the_seed(folder: Path) -> None:
    def three(seed: int) -> list[dict]:
        return said(folder / "start", samples=3, sampling=Sampling(temperature=1.0, seed=seed))

    assert len(three(0)) == 3
    assert three(0) == three(0)
    assert three(0) != three(1)
    assert len({answer["text"] for answer in three(0)}) > 1


def test_a_system_turn_changes_what_is_asked(folder: Path) -> None:
    assert said(folder / "start", system="Be brief.") != said(folder / "start")


def test_a_system_turn_goes_before_prompts_that_have_none() -> None:
    own = Prompt("b", (Turn("system", "Mine."), Turn("user", "b")))
    [first, second] = with_system([Prompt("a", (Turn("user", "a"),)), own], "Be brief.")
    assert first.turns == (Turn("system", "Be brief."), Turn("user", "a"))
    assert second == own
    assert with_system([own], None) == [own]


def answered(
    folder: Path, out: Path, *, model: str = "start", resume: bool = False, **wanted: Any
) -> dict[str, Any]:
    return generate_file(
        speaker(folder / model),
        folder / "prompts.jsonl",
        out,
        Wanted(**{"max_new_tokens": 8, "samples": 2, "sampling": DRAWN, "batch_rows": 2, **wanted}),
        resume=resume,
    )


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_is_answered_in_the_order_of_its_prompts(folder: Path, tmp_path: Path) -> None:
    """Eleven prompts in windows of four; the figures count what was made; one prompt alone is answered alike."""
    figures = answered(folder, tmp_path / "a.jsonl")
    found = rows(tmp_path / "a.jsonl")
    assert [(row["id"], row["sample"]) for row in found] == [(f"q{n}", s) for n in range(11) for s in (0, 1)]
    assert figures["tokens"] == sum(row["tokens"] for row in found)
    assert figures["unfinished"] == sum(not row["finished"] for row in found)
    assert (figures["prompts"], figures["answers"], figures["kept"]) == (11, 22, 0)
    write_rows(tmp_path / "one.jsonl", [{"id": "q7", "prompt": found[14]["prompt"]}])
    wanted = Wanted(max_new_tokens=8, samples=2, sampling=DRAWN)
    generate_file(speaker(folder / "start"), tmp_path / "one.jsonl", tmp_path / "b.jsonl", wanted)
    assert rows(tmp_path / "b.jsonl") == found[14:16]


def test_a_stopped_file_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Stopped in the second window: the first is kept, and nothing of it is made again."""
    answered(folder, tmp_path / "whole")
    stopper = Stopper()
    with pytest.MonkeyPatch.context() as patched:
        whole, windows = generation.answer_prompts, []

        def counted(loaded: Any, prompts: Any, **options: Any) -> Any:
            windows.append(len(prompts))
            stopper.requested = stopper.requested or len(windows) == 2
            return whole(loaded, prompts, **options)

        patched.setattr(generation, "answer_prompts", counted)
        wanted = Wanted(8, 2, DRAWN, batch_rows=2)
        with pytest.raises(Stopped):
            generate_file(
                speaker(folder / "start"), folder / "prompts.jsonl", tmp_path / "cut", wanted, stopper=stopper
            )
        stopped = (tmp_path / "cut").read_bytes()
        windows.clear()
        figures = answered(folder, tmp_path / "cut", resume=True)
        assert windows == [4, 3]
    assert len(rows(tmp_path / "whole")) == 22
    assert (tmp_path / "whole").read_bytes().startswith(stopped)
    assert stopped.count(b"\n") == figures["kept"] == 8
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    assert about_path(tmp_path / "cut").read_bytes() == about_path(tmp_path / "whole").read_bytes()
    assert answered(folder, tmp_path / "cut", resume=True)["kept"] == 22


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sampling": Sampling(temperature=0.5, seed=3)}, "temperature: 1.0 -> 0.5"),
        ({"max_new_tokens": 9}, "max_new_tokens: 8 -> 9"),
        ({"stop": ("x",)}, "stop: [] -> ['x']"),
        ({"model": "run"}, "model: "),
        ({"model": "transcripts"}, "format: chat -> transcript"),
    ],
)
def test_a_resume_with_other_settings_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    answered(folder, tmp_path / "a", max_new_tokens=8, samples=1)
    with pytest.raises(ModelError) as caught:
        answered(folder, tmp_path / "a", resume=True, samples=1, **changes)
    assert f"\n    {named}" in str(caught.value)


def test_other_prompts_are_refused(folder: Path, tmp_path: Path) -> None:
    wanted = Wanted(max_new_tokens=2)
    model = speaker(folder / "start")
    generate_file(model, folder / "prompts.jsonl", tmp_path / "a", wanted)
    with pytest.raises(ModelError, match="prompts: "):
        generate_file(model, folder / "prompts.jsonl", tmp_path / "a", wanted, limit=4, resume=True)


def test_a_prompt_that_cannot_be_asked_is_said_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    """The last of many, far beyond the first window."""
    lines = [{"id": str(n), "prompt": "Why?"} for n in range(30)] + [{"id": "x", "prompt": "a" * 600}]
    write_rows(tmp_path / "long.jsonl", lines)
    with pytest.raises(DataError, match=r'long\.jsonl:31: the prompt "x" has'):
        generate_file(speaker(folder / "start"), tmp_path / "long.jsonl", tmp_path / "a", Wanted(batch_rows=2))
    assert not (tmp_path / "a").exists()


def in_one_of_two(folder: Path, out: Path) -> dict[str, Any]:
    return answered(folder, out, resume=True)


@pytest.mark.slow
def test_two_processes_go_on_to_the_file_of_one(folder: Path, tmp_path: Path) -> None:
    answered(folder, tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    first, second = in_processes(2, in_one_of_two, folder, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == whole
    assert first["kept"] == second["kept"] == 8
    assert first["tokens"] == second["tokens"] > 0


def test_an_endpoint_is_named_in_what_the_answers_depend_on() -> None:
    """Its key is not."""
    endpoint = Endpoint("http://127.0.0.1:9/v1", "tiny")
    assert generation._who(endpoint) == {"endpoint": "http://127.0.0.1:9/v1", "model": "tiny"}
