"""The data browser: every row that came in, why it is where it is, and what a model is shown of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penchant.errors import PenchantError
from penchant.reporting.text_difference import text_differences
from penchant.tokens.chat import ChatFormat
from penchant.types import PreferencePair
from penchant.web.data_builds import Builds, NotReadyError
from penchant.web.data_by_hand import MOST_REASON, ByHand, numbers_of
from penchant.web.data_evidence import flag_lines, meaning, prepared_entry, rule_table, tagger
from penchant.web.data_index import SORTS, text_of
from penchant.web.data_list import called, row_list
from penchant.web.data_search import FIELDS
from penchant.web.data_selection import PAGE_ROWS, Selected, Selection
from penchant.web.data_sources import DataSource, all_sources, named_source
from penchant.web.data_tokens import Tokenizers
from penchant.web.site import Part, form_of, render

PATH = "/data"
_KINDS = {"file": "file of pairs", "prepared": "prepared folder", "run": "data of a run"}


def data_part(
    paths: Sequence[Path] = (),
    *,
    runs: Path | None = None,
    lists: Path | None = None,
    model: str | None = None,
    load_chat: Callable[[str], ChatFormat] | None = None,
) -> Part:
    """Return the section "Data" of the local pages.

    Args:
        paths: Files and folders to browse, named by the user.
        runs: A folder of runs, whose data is browsed too.
        lists: Folder for the lists of rows that are left out by hand; None takes `excluded` in the folder of runs,
            and without one nothing can be left out.
        model: Whose tokens are shown of data that belongs to no run; None takes the bundled model's.
        load_chat: Makes a chat format of a model's name; None shows no tokens.

    Raises:
        UsageError: A path is not there, or the lists would lie in the data.
    """
    for path in paths:
        named_source(path)
    folder = lists or (runs / "excluded" if runs is not None else None)
    pages = _Pages(tuple(paths), runs, ByHand(folder, paths), Tokenizers(load_chat, model) if load_chat else None)
    routes = [
        Route(PATH, pages.start),
        Route(PATH + "/{key}", pages.rows),
        Route(PATH + "/{key}/rows/{number:int}", pages.row),
        Route(PATH + "/{key}/rows/{number:int}/{change}", pages.change, methods=["POST"]),
    ]
    return Part("Data", PATH, routes)


class _Pages:
    """The pages of the section; all of them are functions of files, but for the lists that POST changes."""

    def __init__(
        self, paths: Sequence[Path], runs: Path | None, by_hand: ByHand, tokenizers: Tokenizers | None
    ) -> None:
        self._paths, self._runs = paths, runs
        self._by_hand, self._tokenizers = by_hand, tokenizers
        self._builds = Builds()
        self._warming = threading.Lock()
        self._warm = False

    def start(self, request: Request) -> Response:
        """What can be browsed."""
        sources = all_sources(self._paths, self._runs)
        shown = [(source, _KINDS[source.kind], self._builds.ready(source)) for source in sources]
        return render(request, "data_start.html.j2", sources=shown, runs=self._runs)

    def rows(self, request: Request) -> Response:
        """A page of the rows of a source."""
        source = self._source(request)
        selection = Selection.of(request.query_params)
        self._warm_up()
        try:
            with self._builds.open(source) as connection:
                listed = self._by_hand.listed(source)
                shown = row_list(connection, selection, numbers_of(connection, listed))
        except NotReadyError as state:
            return render(request, "data_building.html.j2", source=source, state=state, query=selection.query())
        return render(
            request,
            "data_rows.html.j2",
            source=source,
            kind=_KINDS[source.kind],
            selection=selection,
            page=min(selection.page, shown.pages),
            shown=shown,
            first=PAGE_ROWS * (min(selection.page, shown.pages) - 1) + 1,
            sorts={name: title for name, (title, _) in SORTS.items()},
            fields=FIELDS,
            called=called,
            list_file=self._by_hand.file(source),
            words={"list": quote(str(self._by_hand.file(source))), "data": quote(str(source.data_path()))},
        )

    def row(self, request: Request) -> Response:
        """One row with all that is known of it."""
        source = self._source(request)
        selection = Selection.of(request.query_params)
        number = request.path_params["number"]
        try:
            with self._builds.open(source) as connection:
                listed = self._by_hand.listed(source)
                selected = Selected(connection, selection, numbers_of(connection, listed))
                around, count = selected.around(number), selected.count()
                label = connection.execute(
                    "SELECT * FROM labels JOIN rows USING (number) JOIN kinds USING (kind) WHERE number = ?",
                    (number,),
                ).fetchone()
                if label is None:
                    raise HTTPException(404, "There is no such row in this data.")
                text = text_of(connection, number)
                flags = flag_lines(connection, number)
        except NotReadyError as state:
            return render(request, "data_building.html.j2", source=source, state=state, query=selection.query())
        pair = text.pair
        return render(
            request,
            "data_row.html.j2",
            source=source,
            selection=selection,
            back=selection.query(page=max(1, -(-(around.place or 1) // PAGE_ROWS))),
            number=number,
            label=dict(label),
            text=text,
            pair=pair,
            marked=_marked(pair),
            around=around,
            count=count,
            flags=flags,
            rules=rule_table(pair, source) if pair is not None else None,
            prepared=prepared_entry(source, label["id"]),
            meaning=meaning,
            called=called,
            facts=_facts(dict(label), pair),
            by_hand=listed.get(pair.id) if pair is not None else None,
            list_file=self._by_hand.file(source),
            most_reason=MOST_REASON,
            **self._tokens(selection.tokens == "1", source, pair),
        )

    async def change(self, request: Request) -> Response:
        """Leave a row out, or put it back; then its page again."""
        form = await form_of(request)
        return await run_in_threadpool(self._changed, request, form)

    def _changed(self, request: Request, form: Mapping[str, str]) -> Response:
        source, number = self._source(request), request.path_params["number"]
        selection = Selection.of(dict(request.query_params))
        try:
            with self._builds.open(source) as connection:
                pair = text_of(connection, number).pair
        except KeyError:
            raise HTTPException(404, "There is no such row in this data.") from None
        except NotReadyError:
            raise HTTPException(409, "The data has changed; open its page again first.") from None
        change = request.path_params["change"]
        if pair is None or change not in ("leave-out", "put-back"):
            raise HTTPException(404, "That cannot be done with this row.")
        if change == "leave-out":
            self._by_hand.leave_out(source, pair, form.get("reason", ""))
        else:
            self._by_hand.put_back(source, pair.id)
        target = f"{PATH}/{source.key}/rows/{number}{selection.query(page=selection.page)}#by-hand"
        return RedirectResponse(target, status_code=303)

    def _source(self, request: Request) -> DataSource:
        key = request.path_params["key"]
        for source in all_sources(self._paths, self._runs):
            if source.key == key:
                return source
        raise HTTPException(404, "There is no such data here. It may have been moved, or removed.")

    def _tokens(self, wanted: bool, source: DataSource, pair: PreferencePair | None) -> dict[str, Any]:
        """The tokens of a row when they are asked for, or why there are none."""
        if self._tokenizers is None or pair is None:
            return {"wanted": wanted, "tokens": None, "tokenizer": "", "trouble": ""}
        name = self._tokenizers.name_for(source)
        if not wanted or not name:
            return {"wanted": wanted, "tokens": None, "tokenizer": name, "trouble": ""}
        try:
            return {
                "wanted": True,
                "tokens": self._tokenizers.view(pair, source),
                "tokenizer": name,
                "trouble": "",
            }
        except PenchantError as error:
            return {"wanted": True, "tokens": None, "tokenizer": name, "trouble": str(error)}

    def _warm_up(self) -> None:
        """Load the tagger before somebody opens a row; it takes a second."""
        with self._warming:
            if self._warm:
                return
            self._warm = True
        threading.Thread(target=_load_tagger, daemon=True).start()


def _load_tagger() -> None:
    try:
        tagger("textblob").count_nouns_and_verbs("It reads its words with the first sentence.")
    except PenchantError:
        return  # the row's page says so, with what can be judged without it


def _marked(pair: PreferencePair | None) -> Any:
    if pair is None:
        return None
    if not pair.rejected:
        return text_differences(pair.chosen, pair.chosen)
    return text_differences(pair.chosen, pair.rejected)


def _facts(label: Mapping[str, Any], pair: PreferencePair | None) -> list[tuple[str, str]]:
    """What is known of a row beside its text."""
    found = [("Place", f"{label['place']}, line {label['line']}"), ("Split", label["split"])]
    if pair is None:
        return [(name, value) for name, value in found if value]
    sides = f", rejected {label['rejected_words']}" if pair.rejected else ""
    found.append(("Words", f"prompt {label['prompt_words']}, chosen {label['chosen_words']}{sides}"))
    if pair.rejected:
        gap = label["gap"]
        longer = "chosen is longer" if gap > 0 else "rejected is longer" if gap < 0 else "equally long"
        found.append(("Length gap", f"{gap:+d} words ({longer})" if gap else longer))
    names = ("score_chosen", "score_rejected", "margin", "weight", "confidence")
    numbers = [(name, value) for name in names if (value := getattr(pair, name)) is not None]
    found += [(name.replace("_", " ").capitalize(), f"{value:g}") for name, value in numbers]
    found += [("Origin", pair.origin), ("Prompt group", pair.cluster)]
    if pair.desirable is not None:
        found.append(("Label", "desirable" if pair.desirable else "undesirable"))
    return [(name, value) for name, value in found if value]
