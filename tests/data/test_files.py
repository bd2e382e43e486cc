"""Reading csv, tsv, json, jsonl and parquet: text stays text, and every problem has its physical line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcli.data.files import column_names, places, read_rows
from ftcli.errors import DataError

AWKWARD_TEXTS = ["NA", "null", "None", "nan", "007", "1e5", "true", " padded ", "=1+1", "\\N"]


def read(path: Path, quoting: str = "auto") -> list[tuple[int, dict[str, Any]]]:
    return [(row.line, row.values) for row in read_rows(path, quoting)]


def values(path: Path, quoting: str = "auto") -> list[list[Any]]:
    return [list(row.values.values()) for row in read_rows(path, quoting)]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problem(path: Path, quoting: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        read(path, quoting)
    return str(caught.value)


# --- text stays text


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_39_a_csv_cell_is_the_text_it_says(tmp_path: Path, text: str) -> None:
    assert values(write(tmp_path / "a.csv", f"text,label\n{text},x\n")) == [[text, "x"]]


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_a_tsv_cell_is_the_text_it_says(tmp_path: Path, text: str) -> None:
    assert values(write(tmp_path / "a.tsv", f"text\tlabel\n{text}\tx\n")) == [[text, "x"]]


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_a_jsonl_text_is_the_text_it_says(tmp_path: Path, text: str) -> None:
    assert values(write(tmp_path / "a.jsonl", json.dumps({"text": text}))) == [[text]]


def test_a_parquet_text_is_the_text_it_says(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": AWKWARD_TEXTS}), tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == [[text] for text in AWKWARD_TEXTS]


def test_a_json_fraction_is_a_number_that_keeps_the_digits_that_are_written(tmp_path: Path) -> None:
    [[version, label]] = values(write(tmp_path / "a.jsonl", '{"version": 1.10, "label": 7}'))
    assert (str(version), version, json.dumps(version), label) == ("1.10", 1.1, "1.1", 7)


def test_a_json_null_stays_a_null(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.jsonl", '{"text": null}')) == [[None]]


def table(alphabet: str) -> st.SearchStrategy[list[list[str]]]:
    """Tables of two columns and any text, of which no row is one blank line."""
    cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=alphabet), max_size=12)
    return st.lists(st.tuples(cell, cell).map(list), min_size=1, max_size=8)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@given(rows=table(""))
@settings(deadline=None, max_examples=150)
def test_whatever_csv_writer_writes_comes_back(suffix: str, rows: list[list[str]]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter="\t" if suffix == ".tsv" else ",")
    writer.writerows([["a", "b"], *rows])
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a{suffix}", buffer.getvalue())
        assert values(path, "minimal") == rows


@given(rows=table("\t\r\n"))
@settings(deadline=None, max_examples=150)
def test_an_unquoted_tsv_comes_back_quotes_and_all(rows: list[list[str]]) -> None:
    text = "".join("\t".join(row) + "\n" for row in [["a", "b"], *rows])
    with TemporaryDirectory() as folder:
        assert values(write(Path(folder) / "a.tsv", text), "none") == rows


@given(rows=table(""))
@settings(deadline=None, max_examples=150)
def test_41_any_text_comes_back_from_jsonl(rows: list[list[str]]) -> None:
    text = "".join(json.dumps({"a": a, "b": b}, ensure_ascii=False) + "\n" for a, b in rows)
    with TemporaryDirectory() as folder:
        assert values(write(Path(folder) / "a.jsonl", text)) == rows


@pytest.mark.parametrize("text", ["nul\0byte", "👩\u200d🚀 rocket", "שלום \u202e RTL", "e\u0301", "\u2028line"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_unusual_characters_come_back(tmp_path: Path, suffix: str, text: str) -> None:
    delimiter = "\t" if suffix == ".tsv" else ","
    content = json.dumps({"a": text, "b": "x"}, ensure_ascii=False)
    if suffix != ".jsonl":
        content = f"a{delimiter}b\n{text}{delimiter}x\n"
    assert values(write(tmp_path / f"a{suffix}", content)) == [[text, "x"]]


def test_a_cell_of_a_million_characters_comes_back(tmp_path: Path) -> None:
    text = "word " * 200_000
    assert values(write(tmp_path / "a.csv", f"a,b\n{text},x\n")) == [[text, "x"]]


# --- physical lines


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_36_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, name: str) -> None:
    content = {"a.csv": "a,b\n1,2\n", "a.tsv": "a\tb\n1\t2\n", "a.jsonl": '{"a": "1", "b": "2"}\n'}[name]
    assert column_names(write(tmp_path / name, b"\xef\xbb\xbf" + content.encode()), "auto") == ("a", "b")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "a,b\r\n1,2\r\n3,4\r\n"), ("a.jsonl", '{"a": "1", "b": "2"}\r\n{"a": "3", "b": "4"}\r\n')],
)
def test_windows_line_ends_leave_nothing_in_the_cells(tmp_path: Path, name: str, content: str) -> None:
    assert values(write(tmp_path / name, content)) == [["1", "2"], ["3", "4"]]


def test_a_line_break_inside_quotes_belongs_to_the_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'a,b\n"one\ntwo\n\nfour",x\nlast,y\n')
    assert read(path) == [(2, {"a": "one\ntwo\n\nfour", "b": "x"}), (6, {"a": "last", "b": "y"})]


def test_a_problem_after_a_quoted_line_break_names_the_physical_line(tmp_path: Path) -> None:
    assert "line 4: 1 cells; the header has 2" in problem(write(tmp_path / "a.csv", 'a,b\n"1\n2",x\nshort\n'))


def test_blank_lines_are_no_rows_and_keep_the_line_numbers(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.csv", "\na,b\n\n1,2\n\n\n3,4\n\n")) == [
        (4, {"a": "1", "b": "2"}),
        (7, {"a": "3", "b": "4"}),
    ]


def test_a_blank_line_of_a_one_column_file_is_an_empty_text(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.csv", "a\nx\n\ny\n")) == [
        (2, {"a": "x"}),
        (3, {"a": ""}),
        (4, {"a": "y"}),
    ]


def test_blank_lines_of_jsonl_keep_the_line_numbers(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}\n')) == [(1, {"a": 1}), (3, {"a": 2})]


def test_rows_are_found_again_by_their_physical_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'a,b\n"1\n2",x\n3,y\n4,z\n')
    assert places(path, "auto", [0, 2]) == ["line 2", "line 5"]


def test_rows_of_a_json_array_are_found_by_number(tmp_path: Path) -> None:
    assert places(write(tmp_path / "a.json", '[{"a": 1}, {"a": 2}]'), "auto", [1]) == ["row 1"]


# --- broken csv and tsv


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\nonly\n", "line 3: 1 cells; the header has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3: 3 cells; the header has 2"),
        ('a,b\n1,2\n"open,4\n5,6\n', "line 3: a quote opens and never closes"),
        ('a,b\n1,2\n"3"x,4\n', "line 3: a quote closes in the middle of a cell"),
        ('a,b\n"open,2\n3,4\n"5",6\n', "line 2: a quote closes in the middle of a cell"),
        ("a,b,a\n1,2,3\n", "line 1: the column 'a' stands twice"),
    ],
    ids=["too few", "too many", "open quote", "quote mid-cell", "quote swallows rows", "duplicate column"],
)
def test_a_broken_csv_is_an_error_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    assert words in problem(write(tmp_path / "a.csv", content))


def test_a_broken_csv_names_the_file(tmp_path: Path) -> None:
    assert problem(write(tmp_path / "odd.csv", "a,b\n1\n")).startswith(f"{tmp_path / 'odd.csv'}: line 2")


def test_37_several_ragged_rows_are_reported_together(tmp_path: Path) -> None:
    message = problem(write(tmp_path / "a.csv", "a,b\n1\n1,2\n1,2,3\n"))
    assert ["line 2: 1 cells" in message, "line 4: 3 cells" in message] == [True, True]


def test_37_a_broken_csv_says_how_to_quote(tmp_path: Path) -> None:
    assert "Quote cells that hold commas" in problem(write(tmp_path / "a.csv", "a,b\n1,2,3\n"))


def test_a_quote_inside_a_csv_cell_is_text(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.csv", 'a,b\n5" pipe,2\n')) == [['5" pipe', "2"]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "holds nothing"),
        ("a.csv", "a,b\n", "holds only a header"),
        ("a.tsv", "a\tb\n", "holds only a header"),
        ("a.jsonl", "", "holds nothing"),
        ("a.jsonl", "\n\n", "holds nothing"),
        ("a.json", "[]", "holds nothing"),
    ],
)
def test_a_file_without_rows_is_an_error(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        column_names(write(tmp_path / name, content), "auto")


def test_a_parquet_file_without_rows_is_an_error(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="columns and no row"):
        column_names(tmp_path / "a.parquet", "auto")


def test_what_is_no_parquet_file_is_an_error(tmp_path: Path) -> None:
    assert "not a parquet file" in problem(write(tmp_path / "a.parquet", "a,b\n"))


# --- quotes in tsv files


@pytest.mark.parametrize(
    "cell",
    ['"he said', '"well" said', '"', '"a"b"', '"""'],
    ids=["opens", "closes early", "alone", "single inside", "three"],
)
def test_quotes_of_a_tsv_that_do_not_pair_are_text(tmp_path: Path, cell: str) -> None:
    assert values(write(tmp_path / "a.tsv", f'a\tb\n"x"\t1\n{cell}\t2\n')) == [['"x"', "1"], [cell, "2"]]


@pytest.mark.parametrize(
    ("cell", "text"), [('"a\tb"', "a\tb"), ('"say ""hi"""', 'say "hi"'), ('""', ""), ('5" pipe', '5" pipe')]
)
def test_quotes_of_a_tsv_that_pair_are_quoting(tmp_path: Path, cell: str, text: str) -> None:
    path = write(tmp_path / "a.tsv", f"b\ta\n1\t{cell}\n")
    # A quoted tab splits the cell for the eye of `auto`, so it is asked for.
    assert values(path, "minimal" if "\t" in cell else "auto") == [["1", text]]


def test_a_tsv_read_without_quoting_says_how_to_turn_it_on(tmp_path: Path) -> None:
    assert "data.quoting=minimal" in problem(write(tmp_path / "a.tsv", 'a\tb\n"x\ny"\t1\n'))


def test_a_tsv_read_with_quoting_says_how_to_turn_it_off(tmp_path: Path) -> None:
    assert "data.quoting=none" in problem(write(tmp_path / "a.tsv", 'a\tb\n"x\t1\n'), "minimal")


# --- encodings


def test_35_a_byte_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    # "a,b\n" is 4 bytes, "x,1\n" 4 more, "caf" 3: the Latin-1 é is byte 11, on line 3.
    path = write(tmp_path / "a.csv", "a,b\nx,1\ncafé,2\n".encode("latin-1"))
    assert "line 3, byte 11: not UTF-8" in problem(path)


def test_a_file_that_is_not_utf_8_says_how_to_convert_it(tmp_path: Path) -> None:
    assert "iconv -f LATIN1 -t UTF-8" in problem(write(tmp_path / "a.csv", b"a,b\n\xe9,1\n"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_35_utf_16_is_recognized_by_its_mark(tmp_path: Path, encoding: str) -> None:
    text = "a,b\nx,1\n" if encoding == "utf-16" else "\ufeffa,b\nx,1\n"
    assert "is UTF-16; expected UTF-8" in problem(write(tmp_path / "a.csv", text.encode(encoding)))


# --- broken JSON


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1', "line 2: not JSON: Expecting ',' delimiter at column 8"),
        ('["a"]', 'line 2: expected an object such as {"text": …}, found ["a"]'),
        ('"a"', "line 2: expected an object"),
        (r'{"a": "\ud83d"}', "line 2: half of a surrogate pair"),
        ('{"a": NaN}', "line 2: not JSON: NaN is not a JSON value"),
        ('{"a": ' + "1" * 5000 + "}", "line 2: not JSON: Exceeds the limit"),
        ("[" * 100_000, "line 2: not JSON: maximum recursion depth"),
    ],
    ids=["cut off", "array", "text", "lone surrogate", "NaN", "endless number", "endless nesting"],
)
def test_42_a_broken_json_line_is_an_error_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in problem(write(tmp_path / "a.jsonl", f'{{"a": 0}}\n{text}\n'))


def test_a_whole_surrogate_pair_is_one_character(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.jsonl", r'{"a": "\ud83d\ude00"}')) == [["😀"]]


def test_a_json_file_may_be_one_array(tmp_path: Path) -> None:
    assert values(write(tmp_path / "a.json", '\n [{"a": "x"},\n {"a": "y"}]\n')) == [["x"], ["y"]]


def test_a_json_file_may_be_one_object_a_line(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.json", '{"a": "x"}\n{"a": "y"}\n')) == [(1, {"a": "x"}), (2, {"a": "y"})]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"a": 1},\n{"a": }]', "line 2: not JSON"),
        ('[{"a": 1}, 5]', "row 1: expected an object"),
        (r'[{"a": "\udc00"}]', "row 0: half of a surrogate pair"),
        ("[" * 100_000, "not JSON: maximum recursion depth"),
        ('{\n  "a": "x"\n}\n', "Write one object a line, or an array of objects"),
    ],
    ids=["syntax", "number", "lone surrogate", "endless nesting", "one object over lines"],
)
def test_a_broken_json_file_is_an_error_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    assert words in problem(write(tmp_path / "a.json", text))
