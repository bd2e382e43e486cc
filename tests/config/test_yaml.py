import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcli.config.excerpts import Place, Span
from ftcli.config.yaml import MAX_CHARACTERS, YamlError, dump, parse

UNTIMED = settings(deadline=None)
# Text that is UTF-8 and has no NUL; the alphabet also leans towards what YAML gives a meaning.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30) | st.text(
    "-+.:#'\"[]{},&*!|>?%@`~ \n\t0123456789eExonyNull", max_size=12
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
PLAIN_DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def error_of(text: str) -> YamlError:
    with pytest.raises(YamlError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 0.00001),
        ("5E3", 5000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5e+2", -250.0),
        (".inf", math.inf),
        (".Inf", math.inf),
        ("-.INF", -math.inf),
        ("0", 0),
        ("-17", -17),
        ("+17", 17),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_a_scalar_of_the_core_schema_has_its_type(text: str, value: object) -> None:
    found = parse(text).value
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_a_float(text: str) -> None:
    assert math.isnan(parse(text).value)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "on",
        "yes",
        "off",
        "y",
        "N",
        "012",
        "007",
        "1:30",
        "1_000",
        "2001-01-01",
        "0b1",
        "nan",
        "inf",
        "1e",
        "=",
    ],
)
def test_what_only_yaml_1_1_would_convert_stays_text(text: str) -> None:
    assert parse(text).value == text


@pytest.mark.parametrize("text", ["'1e-5'", '"null"', "'true'"])
def test_quoted_scalars_are_text(text: str) -> None:
    assert parse(text).value == text[1:-1]


def test_keys_are_text_whatever_they_look_like() -> None:
    assert list(parse("1: a\nnull: b\ntrue: c").value) == ["1", "null", "true"]


def test_43_a_duplicate_key_is_told_with_both_lines() -> None:
    [flaw] = parse("seed: 1\ntask: x\nseed: 2\n").flaws
    assert (flaw.message, flaw.first, flaw.span) == ("stands twice; keep one", Span(1, 1, 4), Span(3, 1, 4))


def test_a_duplicate_key_inside_a_section_stands_at_its_second_place() -> None:
    [flaw] = parse("data:\n  path: a\n  path: b\n").flaws
    assert (flaw.path, flaw.span) == (("data", "path"), Span(3, 3, 4))


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("012", "10 in YAML 1.1, 12 in YAML 1.2; write 12, or '012' for a text"),
        ("-012", "-10 in YAML 1.1, -12 in YAML 1.2; write -12, or '-012' for a text"),
        ("089", "a text in YAML 1.1, 89 in YAML 1.2; write 89, or '089' for a text"),
        ("1:30", "the number 90 in YAML 1.1, a text in YAML 1.2; write '1:30' for a text"),
        ("-1:30", "the number -90 in YAML 1.1, a text in YAML 1.2; write '-1:30' for a text"),
        ("1:00:00.5", "the number 3600.5 in YAML 1.1, a text in YAML 1.2; write '1:00:00.5' for a text"),
        ("2024-02-29", "a date in YAML 1.1, a text in YAML 1.2; write '2024-02-29' for a text"),
        ("2024-02-29T10:00:00Z", "a date in YAML 1.1, a text in YAML 1.2; write '2024-02-29T10:00:00Z' for a text"),
        ("10_000", "the number 10000 in YAML 1.1, a text in YAML 1.2; write 10000, or '10_000' for a text"),
        ("0b101", "the number 5 in YAML 1.1, a text in YAML 1.2; write 5, or '0b101' for a text"),
    ],
)
def test_44_what_two_readers_read_differently_is_explained_and_quotes_help(text: str, readings: str) -> None:
    [flaw] = parse(f"a: {text}").flaws
    assert flaw.message == f"{text} is ambiguous: {readings}"
    assert parse(f"a: '{text}'").flaws == []
    assert parse(dump({"a": text})).value == {"a": text}


@pytest.mark.parametrize("text", ["1.2.3", "v012", "a:b", "10:75", "2024", "no", "1e3", "0x1F", "0.5", "-"])
def test_what_both_readers_take_for_the_same_is_not_ambiguous(text: str) -> None:
    assert parse(f"a: {text}" if text != "-" else "a: '-'").flaws == []


def test_the_same_key_in_two_sections_is_no_duplicate() -> None:
    assert parse("a: {name: x}\nb: {name: y}").value == {"a": {"name": "x"}, "b": {"name": "y"}}


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("a: !!python/object/apply:os.system [ls]", "!!python/object/apply:os.system"),
        ("a: !!python/tuple [1, 2]", "!!python/tuple"),
        ("a: !!set {x}", "!!set"),
        ("a: !!binary aGk=", "!!binary"),
        ("a: !!int 5", "!!int"),
        ("a: !!bool maybe", "!!bool"),
        ("a: !mine {b: 1}", "!mine"),
    ],
)
def test_a_tag_is_refused_by_name_at_its_place(text: str, tag: str) -> None:
    error = error_of(text)
    assert (str(error), error.span) == (f"the tag {tag} is not supported; write plain values", Span(1, 4))


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(LAUGHS, id="a billion laughs"),
        pytest.param("&a [*a]", id="a list inside itself"),
        pytest.param("&a {b: *a}", id="a mapping inside itself"),
        pytest.param("[" * 50_000, id="open brackets"),
        pytest.param("{a: " * 20_000, id="open braces"),
        pytest.param("- " * 40_000 + "x", id="nested dashes"),
        pytest.param("? " * 40_000, id="nested question marks"),
        pytest.param("- a\n" * 20_000, id="too many values"),
        pytest.param("a" * (MAX_CHARACTERS + 1), id="one character too many"),
        pytest.param("- a\n" * 2_000_000, id="megabytes"),
    ],
)
def test_46_a_bomb_ends_in_one_yaml_error(text: str) -> None:
    error_of(text)


def test_a_number_of_101_digits_is_a_flaw() -> None:
    [flaw] = parse(f"seed: {'9' * 101}").flaws
    assert flaw.message == "a number of 101 digits is too large"


def test_a_long_list_of_labels_is_no_bomb() -> None:
    labels = [f"label {number}" for number in range(4_000)]
    assert parse(dump({"labels": labels})).value == {"labels": labels}


def test_an_alias_gives_the_anchored_value_again() -> None:
    assert parse("a: &x [1, 2]\nb: *x").value == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        pytest.param("a: 1\nb: {c: 1\nd: 2\n", 3, 2, id="an open brace"),
        pytest.param("a: 1\nb: {c: 1\n", 2, 4, id="an open brace at the end"),
        pytest.param("a: b: c\n", 1, 5, id="two colons"),
        pytest.param("a:\n\tb: 1\n", 2, 1, id="a tab as indentation"),
        pytest.param("a: @home\n", 1, 4, id="a reserved character"),
        pytest.param("a: 1\nb: *x\n", 2, 4, id="an alias without its anchor"),
        pytest.param("a: 1\nb: \x07\n", 2, 4, id="a control character"),
        pytest.param('a: 1\nb: "\\0"\n', 2, 4, id="a NUL"),
        pytest.param('a: 1\nb: "\\ud800"\n', 2, 4, id="half a character"),
        pytest.param("a: 1\n--- \nb: 2\n", 2, 1, id="two documents"),
        pytest.param("a: 1\n? [b]\n: 2\n", 2, 3, id="a list as a key"),
    ],
)
def test_an_error_has_line_and_column(text: str, line: int, column: int) -> None:
    error = error_of(text)
    assert error.span[:2] == (line, column)


def test_an_escape_beyond_unicode_is_a_yaml_error() -> None:
    assert str(error_of(r'"\UFFFFFFFF"')).startswith("not YAML: ")


def test_keys_and_list_items_have_places() -> None:
    document = parse("data:\n  columns: {text: [a, b]}\nseed: 1\n")
    assert document.places == {
        ("data",): Place(Span(1, 1, 4), Span(1, 1, 4)),  # an indented section is shown by its key
        ("data", "columns"): Place(Span(2, 3, 7), Span(2, 12, 14)),
        ("data", "columns", "text"): Place(Span(2, 13, 4), Span(2, 19, 6)),
        ("data", "columns", "text", 0): Place(Span(2, 20, 1), Span(2, 20, 1)),
        ("data", "columns", "text", 1): Place(Span(2, 23, 1), Span(2, 23, 1)),
        ("seed",): Place(Span(3, 1, 4), Span(3, 7, 1)),
    }


@UNTIMED
@given(PLAIN_DATA)
def test_what_is_dumped_is_read_back_unchanged(value: Any) -> None:
    # repr tells 1 from True and from 1.0, which == does not.
    assert repr(parse(dump(value)).value) == repr(value)


@UNTIMED
@given(st.text(max_size=60) | st.text("-[]{}:,&*!a1 \n\"'\\|>?%#", max_size=60))
def test_any_text_is_read_or_refused_with_a_yaml_error(text: str) -> None:
    try:
        parse(text)
    except YamlError as error:
        assert error.span.line >= 1  # noqa: PT017 - the error is one of the two fine outcomes
