"""Who gets through to the local pages: the token's holder, from a page of ours, under a name of ours."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.pages import SECRET, client, running

from penchant.errors import DataError
from penchant.web.guard import MOST_POSTED, POLICY, TOKEN, new_token
from penchant.web.site import Part, form_of, render


async def shown(request: Request) -> Response:
    return render(request, "message.html.j2", title="Here", message=request.query_params.get("say", ""), fix="")


async def posted(request: Request) -> Response:
    return PlainTextResponse(repr(sorted((await form_of(request)).items())))


async def broken(request: Request) -> Response:
    raise RuntimeError("a defect <b>")


async def explained(request: Request) -> Response:
    raise DataError("it is torn", where="a file", fix="Mend it.")


PARTS = [
    Part(
        "Things",
        "/things",
        [
            Route("/things", shown),
            Route("/things/post", posted, methods=["POST"]),
            Route("/things/broken", broken),
            Route("/things/explained", explained),
        ],
    ),
    Part("Others", "/others", [Route("/others", shown)]),
]


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with running(PARTS) as found:
        yield found


@pytest.fixture
def known(origin: str) -> Iterator[httpx2.Client]:
    with client(origin) as found:
        yield found


def test_a_token_is_long_and_new_each_time() -> None:
    assert len(new_token()) >= 43
    assert new_token() != new_token()


def test_without_the_token_there_is_nothing_to_see(origin: str) -> None:
    with client(origin, known=False) as stranger:
        for path in ("/", "/things", "/static/site.css", "/nothing"):
            answer = stranger.get(path)
            assert answer.status_code == 401
            assert "holds a token" in answer.text
        assert stranger.post("/things/post", data={"a": "b"}).status_code == 401
        assert stranger.get("/things", params={TOKEN: "guessed"}).status_code == 401
        assert stranger.get(f"/things?{TOKEN}=%E9%ED%B3%A9").status_code == 401
        stranger.cookies.set(f"penchant-{origin.rsplit(':', maxsplit=1)[-1]}", SECRET + "x")
        assert stranger.get("/things").status_code == 401


def test_the_token_goes_from_the_address_into_a_cookie_that_scripts_and_sites_do_not_get(origin: str) -> None:
    with client(origin, known=False) as newcomer:
        answer = newcomer.get("/things", params={TOKEN: SECRET, "say": "a&b"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/things?say=a%26b")
        cookie = answer.headers["set-cookie"].lower()
        for word in ("httponly", "samesite=strict", "path=/"):
            assert word in cookie
        assert "a&amp;b" in newcomer.get(answer.headers["location"]).text
        away = newcomer.get(f"{origin}//evil.example/x", params={TOKEN: SECRET})
        assert away.headers["location"] == "/evil.example/x"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil.example"]
)
def test_another_name_for_this_machine_is_refused(known: httpx2.Client, host: str) -> None:
    """DNS rebinding: the browser believes that evil.example is here, and sends its name."""
    assert known.get("/things", headers={"Host": host}).status_code in (400, 421)


def test_localhost_is_a_name_of_ours(origin: str) -> None:
    port = origin.rsplit(":", maxsplit=1)[-1]
    with client(origin, known=False) as newcomer:
        answer = newcomer.get("/things", params={TOKEN: SECRET}, headers={"Host": f"localhost:{port}"})
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_changes_nothing(known: httpx2.Client, headers: dict[str, str]) -> None:
    answer = known.post("/things/post", data={"a": "b"}, headers=headers)
    assert (answer.status_code, answer.text) == (403, "This came from another site.\n")


def test_a_form_without_an_origin_changes_nothing(origin: str, known: httpx2.Client) -> None:
    del known.headers["Origin"]
    assert known.post("/things/post", data={"a": "b"}).status_code == 403


def test_a_form_of_ours_is_read_and_a_strange_one_refused(known: httpx2.Client) -> None:
    assert known.post("/things/post", data={"b": "ü&=", "a": ""}).text == "[('a', ''), ('b', 'ü&=')]"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for content, headers in (
        (b"a=1&a=2", form),
        (b"a=%ff", form),
        (b"no pair", form),
        (b"&".join(b"%d=1" % number for number in range(200)), form),
        (b"{}", {"Content-Type": "application/json"}),
    ):
        assert known.post("/things/post", content=content, headers=headers).status_code == 400


def test_a_long_body_and_one_of_unsaid_length_are_refused(known: httpx2.Client) -> None:
    assert known.post("/things/post", content=b"a=" + b"x" * MOST_POSTED).status_code == 413
    assert known.post("/things/post", content=iter([b"a=b"])).status_code == 413


def test_only_reading_and_posting_are_known(known: httpx2.Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert known.request(method, "/things").status_code == 405
    assert known.get("/things/post").status_code == 405


def test_every_answer_forbids_foreign_code_and_frames(origin: str, known: httpx2.Client) -> None:
    with client(origin, known=False) as stranger:
        answers = [
            stranger.get("/things"),
            *(known.get(path) for path in ("/things", "/static/site.css", "/nothing", "/things/explained")),
            known.get("/things/broken"),
        ]
    assert [answer.status_code for answer in answers] == [401, 200, 200, 404, 422, 500]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    assert "a file: it is torn" in answers[4].text
    assert "a defect &lt;b&gt;" in answers[5].text


def test_pages_have_their_parts_and_say_which_one_they_are_of(known: httpx2.Client) -> None:
    text = known.get("/others").text
    assert '<a href="/others" aria-current="page">Others</a>' in text
    assert '<a href="/things">Things</a>' in text
    assert known.get("/").headers["location"] == "/things"


def test_text_on_a_page_stays_text(known: httpx2.Client) -> None:
    text = known.get("/things", params={"say": "<script>alert(1)</script>\u202e"}).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩" in text


def test_files_beside_the_static_ones_are_not_served(known: httpx2.Client) -> None:
    for path in ("/static/../site.py", "/static/%2e%2e/site.py", "/static//etc/passwd", "/static/"):
        assert known.get(path).status_code == 404
