from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from penchant.data import json_records
from penchant.data.rows import BrokenRow, RawRow, iter_rows, read_rows
from penchant.errors import DataError, UsageError

Write = Callable[..., Path]


def test_lines_are_read_with_their_numbers_and_blank_ones_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\n{"n": 1}\r\n  \t\n{"n": 2}')
    assert read_rows(file) == [
        RawRow(file.as_posix(), 2, {"n": 1}),
        RawRow(file.as_posix(), 4, {"n": 2}),
    ]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"t": "one\u2028two\u0085three"}\n{"t": "next"}\n', encoding="utf-8")
    assert [(row.line, row.values["t"]) for row in read_rows(file)] == [
        (1, "one\u2028two\u0085three"),
        (2, "next"),
    ]


def test_a_bare_carriage_return_is_space_within_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"n":\r1}\r\n{"n": 2}\n')
    assert [(row.line, row.values["n"]) for row in read_rows(file)] == [(1, 1), (2, 2)]


def test_the_same_rows_come_from_every_format(tmp_path: Path) -> None:
    values = [{"n": n, "t": "snö 雪"} for n in range(3)]
    lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    (tmp_path / "a.json").write_text(json.dumps(values), encoding="utf-8")
    for name in ("a.jsonl", "a.jsonl.gz", "a.json"):
        rows = read_rows(tmp_path / name)
        assert [row.values for row in rows] == values
        assert [row.line for row in rows] == [1, 2, 3]
        assert {row.stem for row in rows} == {"a"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_byte_order_mark_is_accepted_at_the_start(tmp_path: Path, name: str) -> None:
    text = '[{"n": 1}]' if name == "a.json" else '{"n": 1}'
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_rows(tmp_path / name)[0].values == {"n": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON: "),
        (b'{"a": 1} x', "not JSON: Extra data at column 10"),
        (b'{"a": "tab\there"}', "not JSON: Invalid control character at column "),
        (b'{"a": NaN}', "NaN is no JSON value"),
        (b'{"a": -Infinity}', "-Infinity is no JSON value"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 8 of the line"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON: "),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair in a string"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
    ],
)
def test_a_broken_line_is_named_with_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    with pytest.raises(DataError) as caught:
        read_rows(file)
    assert f"{file.as_posix()}:2: " in str(caught.value)
    assert reason in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_whole_surrogate_pair_is_one_character(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": "\\uD83D\\uDE00"}')
    assert read_rows(file)[0].values == {"a": "\N{GRINNING FACE}"}


def test_every_broken_line_is_named_up_to_ten(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"n": 1}\n' + b"oops\n" * 13)
    with pytest.raises(DataError) as caught:
        read_rows(file)
    text = str(caught.value)
    assert "13 rows are broken" in text
    assert all(f"a.jsonl:{line}: " in text for line in range(2, 12))
    assert "a.jsonl:12: " not in text
    assert "and 3 more" in text
    assert "oops" not in text


def reasons(file: Path) -> list[tuple[int, str]]:
    """What was read of a file: each row's number, and why it is broken, "" if it is not."""
    return [(row.line, row.reason if isinstance(row, BrokenRow) else "") for row in iter_rows(file)]


def test_a_broken_array_is_read_up_to_the_fault_which_is_named_by_its_line_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[\n {"n": 1},\n {"n": }\n, {"n": 3}]')
    reason = "not JSON: Expecting value at line 3, column 8; what follows it is not read"
    assert reasons(file) == [(1, ""), (2, reason)]
    with pytest.raises(DataError, match=r"a\.json:2: not JSON: Expecting value at line 3, column 8"):
        read_rows(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[{"n": 1} {"n": 2}]', [(1, ""), (2, "Expecting ',' delimiter at line 1, column 11")]),
        ('[{"n": 1}, ]', [(1, ""), (2, "Expecting value at line 1, column 12")]),
        ('[{"n": 1}', [(1, ""), (2, "Expecting ',' delimiter at line 1, column 10")]),
        ('[{"n": 1}] x', [(1, ""), (2, "Extra data at line 1, column 12")]),
        ("[] []", [(1, "Extra data at line 1, column 4")]),
        ("[", [(1, "Expecting value at line 1, column 2")]),
        ("[" * 100_000, [(1, "nested too deeply; what follows it is not read")]),
    ],
)
def test_from_a_fault_of_syntax_on_an_array_is_one_broken_row(
    tmp_path: Path, text: str, expected: list[tuple[int, str]]
) -> None:
    (tmp_path / "a.json").write_text(text)
    found = reasons(tmp_path / "a.json")
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (_, reason), (_, part) in zip(found, expected, strict=True):
        assert part in reason
        assert bool(reason) == bool(part)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (b'{"n": "\xff"}', "not UTF-8 at line 2, column 8"),
        (b'{"n": NaN}', "NaN is no JSON value"),
        (b'{"n": ' + b"1" * 5000 + b"}", "a number of too many digits"),
        (b'{"n": "\\ud83d"}', "half of a surrogate pair in a string"),
        (b"7", "not a JSON object"),
    ],
)
def test_an_item_that_can_be_delimited_breaks_alone(tmp_path: Path, item: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"n": 1},\n' + item + b', {"n": "end"}]')
    assert reasons(tmp_path / "a.json") == [(1, ""), (2, reason), (3, "")]


def test_items_of_an_array_that_are_no_objects_are_named_by_position(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[{"n": 1}, 2, null]')
    with pytest.raises(DataError, match=r"2 rows are broken\n  .*a\.json:2: .*\n  .*a\.json:3: "):
        read_rows(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7", "not an array of objects"),
        ('{"n": [1, 2], "t": ["a", "b"]}', "values are whole columns"),
        ('{"n": {"0": 1}, "t": {"0": "a"}}', "values are whole columns"),
        ('{"n": 1}\n{"n": 2}\n', "Extra data at line 2, column 1"),
    ],
)
def test_a_json_file_that_is_neither_an_array_nor_a_row_is_refused_with_advice(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_rows(file)
    assert "ends in .jsonl" in str(caught.value.fix)


def test_a_json_file_with_one_object_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\n{"n": 1, "t": ["a"]}\n')
    assert [(row.line, row.values) for row in read_rows(tmp_path / "a.json")] == [(1, {"n": 1, "t": ["a"]})]
    (tmp_path / "a.json").write_text('{"n": ')
    assert reasons(tmp_path / "a.json")[0][1].startswith("not JSON: Expecting value")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b"\n \n"),
        ("a.jsonl", b"\xef\xbb\xbf"),
        ("a.json", b""),
        ("a.json", b"[]"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("a.csv", b""),
        ("a.csv", b"prompt,chosen\n"),
    ],
)
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="holds no rows"):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("content", [b"plain", gzip.compress(b'{"n": 1}' * 50, mtime=0)[:-12]])
def test_a_gzip_file_must_be_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_rows(tmp_path / "a.jsonl.gz")


def test_a_missing_file_is_answered_with_the_nearest_name(write_lines: Write, tmp_path: Path) -> None:
    write_lines({"n": 1}, name="train.jsonl")
    (tmp_path / "notes.txt").write_text("no data")
    with pytest.raises(DataError, match=r'Did you mean "train\.jsonl"\?') as caught:
        read_rows(tmp_path / "trian.jsonl")
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="folder does not exist"):
        read_rows(tmp_path / "nowhere" / "train.jsonl")


def test_a_path_that_the_system_refuses_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / ("n" * 5000 + ".jsonl"))


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("a,b")
    with pytest.raises(DataError, match="unknown format"):
        read_rows(tmp_path / "a.xlsx")


def test_a_folder_stands_for_its_only_data_file(write_lines: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data file"):
        read_rows(tmp_path)
    write_lines({"n": 1}, name="anything.jsonl")
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / ".hidden.jsonl").write_text("{}")
    assert [row.stem for row in read_rows(tmp_path)] == ["anything"]


def test_a_split_picks_the_file_called_after_it(write_lines: Write, tmp_path: Path) -> None:
    write_lines({"n": 1}, name="train.jsonl")
    write_lines({"n": 2}, name="test.jsonl")
    assert read_rows(tmp_path, split="test")[0].values == {"n": 2}
    with pytest.raises(DataError, match=r"several data files: test\.jsonl, train\.jsonl"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match='Did you mean "train"'):
        read_rows(tmp_path, split="trian")


def test_two_files_for_one_split_are_refused(write_lines: Write, tmp_path: Path) -> None:
    write_lines({"n": 1}, name="train.jsonl")
    write_lines({"n": 1}, name="train.json")
    with pytest.raises(DataError, match="several data files"):
        read_rows(tmp_path, split="train")


def test_a_split_beside_a_file_is_not_ignored(write_lines: Write) -> None:
    with pytest.raises(UsageError, match="picks a file from a folder"):
        read_rows(write_lines({"n": 1}), split="train")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_limit_counts_rows(tmp_path: Path, name: str) -> None:
    text = '[{"n": 1}, {"n": 2}, 3]' if name == "a.json" else '\n{"n": 1}\n\n{"n": 2}\nbroken\n'
    (tmp_path / name).write_text(text)
    assert [row.values["n"] for row in read_rows(tmp_path / name, limit=2)] == [1, 2]


def test_a_limit_below_one_is_refused(write_lines: Write) -> None:
    with pytest.raises(UsageError, match="limit of 0"):
        read_rows(write_lines({"n": 1}), limit=0)


def test_a_broken_line_does_not_end_the_stream_and_its_content_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"n": 1}\nsecret\n["secret"]\n{"t": "secret \xff"}\n{"n": 5}')
    rows = list(iter_rows(file))
    assert [row.line for row in rows] == [1, 2, 3, 4, 5]
    assert [isinstance(row, BrokenRow) for row in rows] == [False, True, True, True, False]
    assert all(
        "secret" not in row.reason and row.source == file.as_posix() for row in rows if isinstance(row, BrokenRow)
    )


def test_a_line_is_not_held_beyond_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "MAX_LINE_BYTES", 10)
    (tmp_path / "a.jsonl").write_bytes(
        b'{"n":  1}\n{"n":   1}\n{"n": "long, long, long"}\n{"n": 4}\n{"n": "long, long"}'
    )
    # The first line is just short enough with its end; the second fills the limit without it.
    assert [(line, reason[:11]) for line, reason in reasons(tmp_path / "a.jsonl")] == [
        (1, ""),
        (2, "longer than"),
        (3, "longer than"),
        (4, ""),
        (5, "longer than"),
    ]


def test_a_gzip_file_that_ends_early_gives_its_rows_and_one_broken_row_for_the_rest(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"n": n, "t": f"{n * 7919 % 1000003:x}" * 9}) + "\n" for n in range(2000)).encode()
    whole = gzip.compress(lines, mtime=0)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    *rows, last = iter_rows(tmp_path / "a.jsonl.gz")
    assert len(rows) > 100
    assert [row.values["n"] for row in rows if isinstance(row, RawRow)] == list(range(len(rows)))
    assert isinstance(last, BrokenRow)
    assert last.line == len(rows) + 1
    assert "ends early" in last.reason


def test_a_gzip_file_with_a_false_check_sum_is_called_damaged(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b'{"n": 1}\n{"n": 2}\n', mtime=0))
    content[-8] ^= 255
    (tmp_path / "a.jsonl.gz").write_bytes(bytes(content))
    found = reasons(tmp_path / "a.jsonl.gz")
    assert [line for line, _ in found] == [1, 2, 3]
    assert "it is damaged" in found[-1][1]


def test_a_stream_reads_no_further_than_it_is_asked_to(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"n": 1}\n' * 3)
    rows = iter_rows(file)
    assert next(rows).line == 1
    with pytest.raises(DataError, match="no such file"):
        iter_rows(tmp_path / "b.jsonl")  # said at once, not at the first row


def test_what_penchant_writes_beside_pairs_is_no_candidate(write_lines: Write, tmp_path: Path) -> None:
    write_lines({"n": 1}, name="train.jsonl")
    for name in ("card.json", "ledger.parquet"):
        (tmp_path / name).write_text("")
    assert [row.stem for row in read_rows(tmp_path)] == ["train"]
