"""The playground's pages and its queue, with made-up models and no browser."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from tests.pages import client, running
from tests.playground import ANSWERS, BROKEN, OTHER, PLAIN, RUN, MadeUpModels

from penchant.data.source import load_pairs
from penchant.types import Sampling, Turn
from penchant.web.playground import playground_part, worth_marking
from penchant.web.playground_likelihood import Likelihood, Likelihoods, lean
from penchant.web.playground_room import MOST_TALKS, MOST_WAITING

SAMPLING = Sampling(temperature=0.7, top_p=0.9)


@pytest.fixture
def models() -> MadeUpModels:
    return MadeUpModels()


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "pairs.jsonl"


@pytest.fixture
def known(models: MadeUpModels, pairs: Path) -> Iterator[httpx2.Client]:
    part = playground_part(models, sampling=SAMPLING, max_new_tokens=64, pairs=pairs, where="runs")
    with running([part]) as origin, client(origin) as found:
        yield found
        models.go.set()


def ask(known: httpx2.Client, question: str = "Why?", **form: str) -> str:
    """Ask and return the conversation's address."""
    answer = known.post("/playground/ask", data={"question": question, **form})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].partition("#")[0]


def shown(
    known: httpx2.Client, address: str, ready: Callable[[str], bool] = lambda text: "Stop<" not in text
) -> str:
    """Read a page until it is ready."""
    for _ in range(500):
        if ready(text := known.get(address).text):
            return text
        time.sleep(0.01)
    raise AssertionError("the page did not get ready")


def stop(known: httpx2.Client, address: str) -> None:
    assert known.post(f"{address}/stop", data={"stop": ""}).status_code == 303


def words(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page)))


def rows(pairs: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]


def keep(known: httpx2.Client, address: str, better: str, page: str | None = None) -> httpx2.Response:
    [*_, exchange] = re.findall(r'name="exchange" value="(\w+)"', page or shown(known, address))
    return known.post(f"{address}/keep", data={"exchange": exchange, "better": better})


def test_a_question_is_answered_by_both_and_what_differs_is_marked(
    known: httpx2.Client, models: MadeUpModels
) -> None:
    page = shown(known, ask(known, "Why <i>so</i>?", temperature="0", seed="7", max_new_tokens="9"))
    assert "Why &lt;i&gt;so&lt;/i&gt;?" in page
    assert '<mark class="own"> often</mark>' in page
    assert '<mark class="own">never </mark>' in page
    [asked] = models.asked
    assert (asked.sampling, asked.max_new_tokens) == (Sampling(temperature=0.0, top_p=0.9, seed=7), 9)
    assert {side: voice.name for side, voice in asked.voices.items()} == {"left": RUN.name, "right": "bundled"}
    assert asked.voices["right"].like == RUN.path  # the reference is asked in the run's format


def test_the_figures_are_log_probabilities_and_their_difference(known: httpx2.Client) -> None:
    text = words(shown(known, ask(known))).replace("\N{MINUS SIGN}", "-")
    assert "Left policy 5 -10.0-2.000 -14.0-2.800 +4.0+0.800" in text
    assert "leans to the left answer by 8.0 nats" in text
    assert "beta of 0.1 that is a margin of 0.80 in implicit reward" in text


def test_lean_is_said_only_where_rounding_could_not_say_it() -> None:
    def four(left: float, right: float, rounding: float) -> Likelihoods:
        one, other = Likelihood(left, 4, rounding), Likelihood(0.0, 4, rounding)
        two = Likelihood(right, 4, rounding)
        return {"left": {"left": one, "right": other}, "right": {"left": two, "right": other}}

    assert lean(four(3.0, 1.0, 0.0)).side == "left"  # pyright: ignore[reportOptionalMemberAccess] - it is there
    found = lean(four(1.0, 3.0, 0.5))
    assert found is not None
    assert (found.nats, found.side) == (-2.0, "right")
    assert found.rounding == pytest.approx(0.5 * 2**0.5)
    unclear = lean(four(1.0, 3.0, 0.8))
    assert unclear is not None
    assert unclear.side is None
    assert lean(four(float("nan"), 1.0, 0.0)) is None
    assert lean({"left": {"left": Likelihood(-1.0, 1)}}) is None


def test_texts_that_share_next_to_nothing_are_not_marked() -> None:
    from penchant.reporting.text_difference import text_differences

    assert worth_marking(text_differences("the sun shines", "the sun falls"))
    assert not worth_marking(text_differences("the sun, at last", "rain, never once"))
    assert not worth_marking(())


def test_a_conversation_goes_on_with_each_sides_own_answers(known: httpx2.Client, models: MadeUpModels) -> None:
    address = ask(known, "One?", system="Be brief.")
    shown(known, address)
    assert ask(known, "Two?", talk=address.rpartition("/")[2]) == address
    shown(known, address, lambda text: text.count("Answered in") == 2)
    assert [one.question for one in models.asked[1].history] == ["One?"]
    assert models.asked[1].history[0].answers["left"].text == ANSWERS["left"]
    assert models.asked[1].system == "Be brief."


def test_a_form_that_is_sent_twice_asks_once(known: httpx2.Client, models: MadeUpModels) -> None:
    address = ask(known, "One?", key="same")
    assert ask(known, "One?", key="same") == address
    shown(known, address)
    assert len(models.asked) == 1


def test_a_starting_question_is_asked_by_one_button(known: httpx2.Client, models: MadeUpModels) -> None:
    start = known.get("/playground").text
    assert "What is a &lt;b&gt;?" in start
    shown(known, ask(known, "", start="2"))
    assert models.asked[0].question == "What is a <b>?"
    assert known.post("/playground/ask", data={"question": "", "start": "3"}).status_code == 422


def test_questions_wait_for_one_another_and_can_be_stopped(known: httpx2.Client, models: MadeUpModels) -> None:
    models.go.clear()
    first = ask(known, "One?")
    growing = shown(known, first, lambda text: ">The</p>" in text)
    assert "Being written" in growing
    assert '<meta http-equiv="refresh"' in growing  # with scripts off the page is read again
    second, third = ask(known, "Two?"), ask(known, "Three?")
    assert "Waiting: 1 question is answered first." in words(known.get(second).text)
    assert "Waiting: 2 questions are answered first." in words(known.get(third).text)
    stop(known, second)
    assert "Stopped before there was an answer." in words(known.get(second).text)
    stop(known, first)
    models.go.set()
    stopped = words(shown(known, first))
    assert "Stopped after" in stopped
    assert "cut off" in stopped
    assert "shines" not in stopped
    shown(known, third, lambda text: "Answered in" in text)
    assert [one.question for one in models.asked] == ["One?", "Three?"]


def test_what_was_stopped_before_it_began_is_not_remembered(known: httpx2.Client, models: MadeUpModels) -> None:
    models.go.clear()
    busy, address = ask(known, "One?"), ask(known, "Two?")
    stop(known, address)
    models.go.set()
    shown(known, busy)
    ask(known, "Three?", talk=address.rpartition("/")[2])
    shown(known, address, lambda text: "Answered in" in text)
    assert models.asked[-1].history == ()


def test_too_many_waiting_questions_are_refused_in_words(known: httpx2.Client, models: MadeUpModels) -> None:
    models.go.clear()
    shown(known, ask(known), lambda text: "Being written" in text)
    for _ in range(MOST_WAITING):
        ask(known)
    refused = known.post("/playground/ask", data={"question": "Why?"})
    assert (refused.status_code, f"{MOST_WAITING} questions wait already" in refused.text) == (422, True)


def test_old_conversations_are_forgotten(known: httpx2.Client) -> None:
    addresses = [ask(known, f"Question {number}?") for number in range(MOST_TALKS // 2)]
    shown(known, addresses[-1])
    addresses += [ask(known, f"Question {number}?") for number in range(MOST_TALKS // 2, MOST_TALKS)]
    shown(known, addresses[-1])
    shown(known, ask(known, "Last?"))
    ask(known, "Very last?")
    assert [known.get(address).status_code for address in (addresses[0], addresses[-1])] == [404, 200]


@pytest.mark.parametrize("question", ["Why?", "crash"])
def test_what_fails_is_explained_and_the_next_question_is_answered(
    known: httpx2.Client, question: str, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = BROKEN.name if question == "Why?" else RUN.name
    page = shown(known, ask(known, question, policy=policy))
    if question == "Why?":
        assert "runs/broken: there is no &lt;such&gt; model" in page
        assert "Make one." in page
    else:
        assert "a defect of Penchant: RuntimeError: torn ⟨U+001B⟩[31m&lt;i&gt;" in page
        told = capfd.readouterr().err
        assert "Traceback" in told
        assert "\x1b" not in told
    assert "Answered in" in shown(known, ask(known, "Why?"))


WRONG: list[tuple[dict[str, str], str]] = [
    ({"question": "  \n"}, "there is no question"),
    ({"question": "Why?", "policy": "runs/onw"}, 'Did you mean "runs/one"?'),
    ({"question": "Why?", "beside": "../../etc"}, 'there is no "../../etc" to ask'),
    ({"question": "Why?", "policy": PLAIN.name, "beside": "reference"}, "a-model: it has no reference"),
    ({"question": "Why?", "top_p": "2"}, "top_p is 2.0"),
    ({"question": "Why?", "temperature": "nan"}, "temperature is nan"),
    ({"question": "Why?", "top_k": "many"}, "top_k is not a whole number: many"),
    ({"question": "Why?", "max_new_tokens": "1000000"}, "max_new_tokens is 1000000"),
    ({"question": "Why?", "talk": "gone"}, "this conversation is no longer there"),
]


def test_a_wrong_form_asks_nobody(known: httpx2.Client, models: MadeUpModels) -> None:
    for form, message in WRONG:
        refused = known.post("/playground/ask", data=form)
        assert refused.status_code == 422
        assert message in html.unescape(refused.text)
    assert models.asked == []


def test_who_stands_beside_whom_is_a_choice(known: httpx2.Client, models: MadeUpModels) -> None:
    page = known.get("/playground", params={"policy": OTHER.key, "beside": RUN.key}).text
    assert f'name="beside" value="{RUN.key}"' in page
    shown(known, ask(known, policy=OTHER.name, beside=RUN.name))
    assert models.asked[0].voices["right"].like == RUN.path
    alone = words(shown(known, ask(known, policy=PLAIN.name, beside="nobody")))
    assert "How probable they are" in alone
    assert "Difference" not in alone
    assert "Which was better?" not in alone


def test_a_kept_pair_is_preference_data_with_its_origin(
    known: httpx2.Client, models: MadeUpModels, pairs: Path
) -> None:
    address = ask(known, "Why? ünï \u202e", system="Be brief.", seed="3")
    page = shown(known, address)
    for _ in range(2):  # sent twice, kept once
        assert keep(known, address, "right", page).status_code == 303
    assert keep(known, address, "left", page).status_code == 422
    assert keep(known, address, "both", page).status_code == 400
    assert "Kept: the right answer was better." in words(known.get(address).text)
    [row] = rows(pairs)
    assert (row["blind"], row["chosen_model"], row["rejected_model"]) == (False, "bundled", RUN.path)
    [pair], ledger = load_pairs(pairs)
    assert ledger.counts()["kept"] == len(ledger) == 1
    assert pair.prompt == (Turn("system", "Be brief."), Turn("user", "Why? ünï \u202e"))
    assert (pair.chosen, pair.rejected) == (ANSWERS["right"], ANSWERS["left"])
    assert (pair.chosen_complete, pair.origin) == (True, "penchant playground")


def test_a_pair_of_a_later_turn_parts_where_the_answers_parted(known: httpx2.Client, pairs: Path) -> None:
    address = ask(known, "One?")
    shown(known, address)
    ask(known, "Two?", talk=address.rpartition("/")[2])
    shown(known, address, lambda text: text.count("Answered in") == 2)
    keep(known, address, "left")
    [pair], _ = load_pairs(pairs)
    assert pair.prompt == (Turn("user", "One?"),)
    assert pair.chosen_lead == (Turn("assistant", ANSWERS["left"]), Turn("user", "Two?"))
    assert pair.rejected_lead == (Turn("assistant", ANSWERS["right"]), Turn("user", "Two?"))


def test_a_cut_answer_is_kept_as_one(known: httpx2.Client, models: MadeUpModels, pairs: Path) -> None:
    models.answers = {"left": "The sun shines.", "right": "Rain falls often."}
    models.go.clear()
    address = ask(known)
    shown(known, address, lambda text: ">Rain</p>" in text)
    stop(known, address)
    models.go.set()
    shown(known, address)
    keep(known, address, "left")
    [row] = rows(pairs)
    assert (row["chosen_complete"], row["rejected_complete"]) == (False, False)


def test_equal_answers_make_no_pair(known: httpx2.Client, models: MadeUpModels, pairs: Path) -> None:
    models.answers = dict.fromkeys(ANSWERS, "The same.")
    page = words(shown(known, ask(known)))
    assert "Both answers are the same, word for word." in page
    assert "There is nothing to keep here: both answers are the same." in page
    assert not pairs.exists()


def test_pairs_go_behind_what_is_there_and_into_no_other_file(known: httpx2.Client, pairs: Path) -> None:
    pairs.parent.mkdir()
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}', encoding="utf-8")  # its last line is torn
    keep(known, ask(known), "left")
    assert len(rows(pairs)) == 2
    pairs.write_text("a diary\n", encoding="utf-8")
    refused = keep(known, ask(known), "left")
    assert (refused.status_code, "holds no preference pairs" in refused.text) == (422, True)
    assert pairs.read_text(encoding="utf-8") == "a diary\n"


def test_without_anybody_to_ask_the_page_says_how_to_get_one(known: httpx2.Client, models: MadeUpModels) -> None:
    models.found = ()
    assert "penchant demo" in known.get("/playground").text
    assert known.post("/playground/ask", data={"question": "Why?"}).status_code == 422


def test_reading_changes_nothing(known: httpx2.Client, models: MadeUpModels) -> None:
    for path in ("/playground/ask", "/playground/talk/x/stop", "/playground/talk/x/keep"):
        assert known.get(path).status_code == 405
    assert known.get("/playground/talk/x").status_code == 404
    assert models.asked == []


def test_ending_the_process_waits_for_no_answer() -> None:
    program = """
import time
from tests.playground import RUN, MadeUpModels
from penchant.types import Sampling
from penchant.web.playground_form import voices_of
from penchant.web.playground_room import Room
from penchant.web.playground_talk import Talk
models = MadeUpModels(answers=dict.fromkeys(("left", "right"), "word " * 10**7))
talk = Talk("a", RUN, voices_of(models.found, RUN, None), "")
Room(models).ask(talk, "Why?", Sampling(), 9, key="k")
while talk.exchanges[0].state != "answering":
    time.sleep(0.01)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
