"""`penchant judge` as it is typed; and a model of our own behind an endpoint of our own, author and judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.chat_server import Body, chat_server, last_words
from tests.model_server import model_server
from tests.tiny import loaded, tiny_llama
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.data.house_style import house_style_file
from penchant.endpoint.chat import ChatRequest
from penchant.endpoint.client import Endpoint
from penchant.evaluation.judge_card import judge_card
from penchant.evaluation.judges.llm import LlmJudge
from penchant.evaluation.win_rate import judge_both_orders, win_rate_figures
from penchant.generation.generate import generate
from penchant.models.load import load_model
from penchant.types import Answer, Prompt, Turn
from penchant.workflow.make_pairs import read_questions

KEY = "sk-a-secret-that-nobody-may-see"


def prefers_calm(body: Body) -> str:
    first, _, second = last_words(body).partition("<answer-B")
    return f"{body['model']} heard {KEY}.\n[[{'A' if 'calm' in first else 'B' if 'calm' in second else 'C'}]]"


def test_the_command_judges_a_file_through_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    rows = [
        {"id": str(number), "prompt": "Why do cats purr?", "policy": "They feel calm.", "reference": "They do."}
        for number in range(3)
    ]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, cache = tmp_path / "out", tmp_path / "kept.sqlite"
    with chat_server(prefers_calm) as server:
        words = ["judge", f"llm:owl@{server.base_url}", "--answers", str(answers), "--cache", str(cache)]
        words += ["--key-variable", "JUDGE_KEY", "--device", "cpu", "--out", str(out)]
        plain = CliRunner().invoke(app, words)
        assert plain.exit_code == 0, plain.output
        as_json = CliRunner().invoke(app, [*words, "--json", "--quiet"])
        sent = server.count
        assert server.exchanges[0].headers["authorization"] == f"Bearer {KEY}"
        over = CliRunner().invoke(app, [*words[:-2], "--max-requests", "0", "--limit", "3"])  # all is kept
        other = [word.replace("llm:owl", "llm:lynx") for word in words]
        spent = CliRunner().invoke(app, [*other, "--max-requests", "0"])
    assert "100.0 %" in plain.output
    assert "Calibration card of llm:owl" in plain.output
    figures = json.loads(as_json.stdout)
    assert figures["win_rate"] == 1
    assert figures["judge_requests_sent"] == 0
    assert json.loads((out / "judge.json").read_text())["win_rate_wins"] == 3
    reasons = (out / "judgements.jsonl").read_text()
    assert "owl heard [key]" in reasons
    assert sent == 3  # equal questions are asked once: two orders, and the same answer twice
    assert over.exit_code == 0
    assert spent.exit_code == 4
    assert "budget of 0 requests" in spent.output
    said = plain.output + as_json.output + over.output + spent.output
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert KEY not in said
    assert KEY.encode() not in b"".join(files)


def questions(count: int) -> list[Prompt]:
    read = read_questions(house_style_file("test_questions"))[:count]
    return [Prompt(one.id, (Turn("user", one.text),)) for one in read]


def asked(endpoint: Endpoint, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float) -> list[Answer]:
    requests = [ChatRequest(prompt.turns, max_tokens=max_tokens, temperature=temperature) for prompt in prompts]
    return [Answer(result.text, result.finished) for result in endpoint.answers(requests)]


def test_a_small_model_answers_and_judges_through_an_endpoint(tmp_path: Path) -> None:
    model = loaded(tiny_llama(layers=1, max_position_embeddings=8192))
    prompts = [Prompt(name, (Turn("user", f"Why {name}?"),)) for name in ("sun", "rain")]
    with model_server(model) as server:
        endpoint = Endpoint(server.base_url, "tiny", cache=tmp_path / "kept")
        policy = asked(endpoint, prompts, max_tokens=6, temperature=0.0)
        reference = asked(endpoint, prompts, max_tokens=6, temperature=1.0)
        judge = LlmJudge(endpoint, max_tokens=4)
        figures = win_rate_figures(judge_both_orders(judge, prompts, policy, reference), ["sun", "rain"])
        sent = server.count
        judge_both_orders(judge, prompts, policy, reference)
        assert server.count == sent == 8
    ids = [model.chat.prompt_ids(prompt.turns) for prompt in prompts]
    direct = generate(model, ids, max_new_tokens=6)
    assert [answer.text for answer in policy] == [model.chat.decode(row[0].ids) for row in direct]
    assert reference != policy
    assert figures["win_rate_no_verdict"] == 2  # a random model says nothing that could be taken for a verdict


@pytest.mark.slow
@pytest.mark.bundled
def test_the_bundled_model_answers_and_judges_through_an_endpoint(tmp_path: Path) -> None:
    prompts = questions(4)
    with model_server(load_model("bundled")) as server:
        endpoint = Endpoint(server.base_url, "smollm2-135m", cache=tmp_path / "kept", timeout_seconds=600)
        policy = asked(endpoint, prompts, max_tokens=48, temperature=0.0)
        reference = asked(endpoint, prompts, max_tokens=48, temperature=1.0)
        judge = LlmJudge(endpoint, max_tokens=96)
        judgements = judge_both_orders(judge, prompts, policy, reference)
        card = judge_card(judge, prompts, policy, reference, judgements)
        sent = server.count
        assert judge_both_orders(judge, prompts, policy, reference) == judgements
        assert server.count == sent
    assert all(answer.text.strip() for answer in [*policy, *reference])
    figures = win_rate_figures(judgements, [prompt.id for prompt in prompts])
    with_verdict = figures["win_rate_wins"] + figures["win_rate_losses"] + figures["win_rate_ties"]
    assert with_verdict + figures["win_rate_no_verdict"] == len(prompts)
    assert card["warnings"]
    print(json.dumps({**figures, "card": card}, indent=1))
