"""From `data` in the config to the rows of a split: folders, saved data sets, files, and the Hub offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import load_rows as load
from conftest import write_table

from ftcli.data.rows import SplitRows
from ftcli.errors import DataError, ModelError

ROWS = [("the cat", "good"), ("a dog", "bad"), ("red fish", "good")]


def problem(split: str = "train", **data: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(split, **data)
    return str(caught.value)


def contents(rows: SplitRows) -> list[tuple[Any, Any]]:
    return list(zip(rows.column("text"), rows.column("label"), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "data" / "train.csv", ("text", "label"), ROWS)
    write_table(tmp_path / "data" / "validation.tsv", ("text", "label"), ROWS[:2])
    return tmp_path / "data"


def save_to_disk(folder: Path, *, splits: dict[str, list[tuple[str, int]]] | None = None, **features: Any) -> Path:
    """Save a data set with the class names bad and good."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"]), **features})
    made = {
        name: Dataset.from_dict(
            {"text": [text for text, _ in rows], "label": [label for _, label in rows]}, features=kinds
        )
        for name, rows in (splits or {"train": [("the cat", 1), ("a dog", 0)]}).items()
    }
    DatasetDict(made).save_to_disk(str(folder))
    return folder


# --- where rows come from


def test_a_folder_gives_the_file_named_like_the_split(folder: Path) -> None:
    assert contents(load(path=str(folder))) == ROWS


def test_a_folder_may_mix_kinds_of_files(folder: Path) -> None:
    assert contents(load("validation", path=str(folder))) == ROWS[:2]


def test_files_are_named_one_by_one(folder: Path) -> None:
    files = {"train": str(folder / "validation.tsv"), "validation": str(folder / "train.csv")}
    assert contents(load("validation", files=files)) == ROWS


def test_one_named_file_may_be_trained_and_validated_on(folder: Path) -> None:
    files = {"train": str(folder / "train.csv")}
    assert contents(load("train", files=files, validation_split="train")) == ROWS


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_other_kinds_of_files_give_the_same_rows(tmp_path: Path, kind: str) -> None:
    objects = [{"text": text, "label": label} for text, label in ROWS]
    path = tmp_path / f"train.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(objects), path)
    else:
        lines = "\n".join(json.dumps(row) for row in objects)
        path.write_text(json.dumps(objects) if kind == "json" else lines, encoding="utf-8")
    assert contents(load(path=str(tmp_path))) == ROWS


def test_a_saved_data_set_gives_its_split(tmp_path: Path) -> None:
    path = save_to_disk(tmp_path / "saved", splits={"train": [("x", 0)], "validation": [("y", 1)]})
    assert contents(load("validation", path=str(path))) == [("y", 1)]


def test_a_data_set_saved_alone_is_the_train_split(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["x"], "label": ["a"]}).save_to_disk(str(tmp_path / "one"))
    assert contents(load("train", path=str(tmp_path / "one"))) == [("x", "a")]


def test_a_data_set_saved_alone_is_no_validation_split(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["x"], "label": ["a"]}).save_to_disk(str(tmp_path / "one"))
    assert "no split 'validation'; found train" in problem("validation", path=str(tmp_path / "one"))


def test_the_format_that_a_data_set_was_saved_with_does_not_matter(tmp_path: Path) -> None:
    from datasets import Dataset

    made = Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]}).with_format("numpy", columns=["label"])
    made.save_to_disk(str(tmp_path / "one"))
    assert list(load(path=str(tmp_path / "one")).batches(5)) == [(0, {"text": ["x", "y"], "label": [0, 1]})]


def test_rows_that_were_shuffled_before_saving_keep_texts_and_labels_together(tmp_path: Path) -> None:
    from datasets import Dataset

    made = Dataset.from_dict({"text": [str(i) for i in range(20)], "label": list(range(20))}).shuffle(seed=1)
    made.save_to_disk(str(tmp_path / "one"))
    rows = load(path=str(tmp_path / "one"))
    assert (
        contents(rows)
        == [(str(label), label) for label in rows.column("label")]
        == [pair for _, b in rows.batches(7) for pair in zip(b["text"], b["label"], strict=True)]
    )


def test_an_existing_folder_wins_over_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    target = folder.parent / "nyu-mll"
    target.mkdir()
    folder.rename(target / "glue")
    assert contents(load(path="nyu-mll/glue")) == ROWS


@pytest.mark.parametrize("path", ["./nowhere", "../nowhere", "/nowhere/at/all"])
def test_what_looks_like_a_path_never_reaches_the_hub(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    assert "no such file or folder" in problem(path=path)


def test_a_hub_id_that_cannot_be_reached_is_one_model_error() -> None:
    with pytest.raises(ModelError, match=r"'nobody/nothing': not wholly in the cache .*local directory"):
        load(path="nobody/nothing")


# --- splits and files that are not there


def test_a_missing_split_lists_what_there_is(folder: Path) -> None:
    (folder / "validation.tsv").rename(folder / "dev.tsv")
    assert "no split 'validation'; found dev, train." in problem("validation", path=str(folder))


def test_a_missing_split_suggests_the_nearest(folder: Path) -> None:
    (folder / "validation.tsv").rename(folder / "valid.tsv")
    assert "Did you mean 'valid'?" in problem("validation", path=str(folder))


def test_a_missing_validation_split_says_how_to_go_without(folder: Path) -> None:
    (folder / "validation.tsv").unlink()
    assert "set evaluation.every=never" in problem("validation", path=str(folder))


def test_a_split_that_is_not_among_the_files_lists_what_there_is(folder: Path) -> None:
    assert "data.files: no split 'validation'; found train" in problem(
        "validation", files={"train": str(folder / "train.csv")}
    )


def test_a_missing_split_of_a_saved_data_set_lists_what_there_is(tmp_path: Path) -> None:
    assert "no split 'test'; found train" in problem("test", path=str(save_to_disk(tmp_path / "saved")))


def test_two_files_for_one_split_are_ambiguous(folder: Path) -> None:
    (folder / "train.jsonl").write_text("{}", encoding="utf-8")
    assert "could be any of train.csv, train.jsonl; name one in data.files" in problem(path=str(folder))


def test_a_file_as_path_says_where_files_go(folder: Path) -> None:
    assert "name it as data.files={train: " in problem(path=str(folder / "train.csv"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert f"{tmp_path / 'no.csv'}: no such file" in problem(files={"train": str(tmp_path / "no.csv")})


def test_an_unknown_kind_of_file_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "train.xlsx").write_bytes(b"")
    assert "expected one of .csv, .tsv, .json" in problem(files={"train": str(tmp_path / "train.xlsx")})


def test_a_damaged_saved_data_set_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{}", encoding="utf-8")
    assert "not a save_to_disk folder" in problem(path=str(tmp_path))


@pytest.mark.parametrize(("text", "told"), [("", "holds nothing"), ("text,label\n", "holds only a header")])
def test_34_a_file_without_rows_is_an_error(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "train.csv").write_text(text, encoding="utf-8")
    assert f"train.csv: {told}" in problem(files={"train": str(tmp_path / "train.csv")})


def test_34_a_saved_split_without_rows_is_an_error(tmp_path: Path) -> None:
    path = save_to_disk(tmp_path / "saved", splits={"train": []})
    assert "a split has no rows" in problem(path=str(path))


# --- columns


def test_31_a_missing_column_lists_the_columns_and_the_nearest(folder: Path) -> None:
    assert "train.csv: no column 'texts'; found text, label. Did you mean 'text'?" in problem(
        path=str(folder), text="texts"
    )


@pytest.mark.parametrize(("role", "key"), [("text", "data.columns.text"), ("label", "data.columns.label")])
def test_a_missing_column_names_the_key_to_set(folder: Path, role: str, key: str) -> None:
    assert problem(path=str(folder), **{role: "nope"}).endswith(f"Set {key}")


def test_only_the_columns_of_the_task_are_kept(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("id", "text", "label"), [(1, "x", "a")])
    assert load(path=str(tmp_path)).dataset.column_names == ["text", "label"]


def test_a_json_row_without_a_column_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x", "label": 1}\n\n{"text": "y"}\n', encoding="utf-8")
    assert "line 3: no 'label'; every row needs it" in problem(path=str(tmp_path))


def test_a_row_of_a_json_array_without_a_column_is_named_by_number(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('[{"text": "x", "label": 1}, {"text": "y"}]', encoding="utf-8")
    assert "row 1: no 'label'" in problem(path=str(tmp_path))


@pytest.mark.parametrize("value", ['["x"]', '{"a": 1}'])
def test_a_text_that_is_a_list_or_an_object_is_an_error(tmp_path: Path, value: str) -> None:
    (tmp_path / "train.jsonl").write_text(f'{{"text": {value}, "label": 1}}\n', encoding="utf-8")
    assert "line 1: column 'text' holds" in problem(path=str(tmp_path))


def test_bytes_are_no_text(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": [b"x"], "label": ["a"]}), tmp_path / "train.parquet")
    assert "row 0: column 'text' holds bytes; expected text" in problem(path=str(tmp_path))


def test_numbers_in_a_saved_text_column_are_an_error(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": [1, 2], "label": [0, 1]}).save_to_disk(str(tmp_path / "one"))
    assert "column 'text' holds int values; expected text" in problem(path=str(tmp_path / "one"))


# --- empty texts


@pytest.mark.parametrize("text", ["", "   ", "\t"])
def test_an_empty_text_is_an_error_with_its_physical_line(tmp_path: Path, text: str) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("two\nlines", "a"), ("x", "b"), (text, "a")])
    assert "line 5: column 'text' is empty" in problem(path=str(tmp_path))


def test_38_a_null_text_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x", "label": 1}\n{"text": null, "label": 1}', encoding="utf-8")
    assert "line 2: column 'text' is empty" in problem(path=str(tmp_path))


def test_empty_texts_of_a_saved_data_set_are_named_by_row(tmp_path: Path) -> None:
    path = save_to_disk(tmp_path / "saved", splits={"train": [("x", 1), ("", 0)]})
    assert "row 1: column 'text' is empty" in problem(path=str(path))


def test_an_empty_text_says_how_to_keep_it(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("", "a")])
    assert "set data.empty_text=drop (or keep)" in problem(path=str(tmp_path))


def test_empty_texts_of_both_columns_are_reported_together(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("a", "b", "label"), [("x", "", "0"), ("", "y", "1")])
    message = problem(path=str(tmp_path), text=["a", "b"])
    assert ["line 3: column 'a'" in message, "line 2: column 'b'" in message] == [True, True]


def test_empty_texts_are_kept_when_that_is_wanted(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("text", "label"), [("", "a"), ("x", "b")])
    assert load(path=str(tmp_path), empty_text="keep").column("text") == ["", "x"]


# --- class names


def test_a_saved_data_set_declares_its_class_names(tmp_path: Path) -> None:
    assert load(path=str(save_to_disk(tmp_path / "saved"))).class_names("label") == ("bad", "good")


def test_a_parquet_file_of_datasets_declares_its_class_names(tmp_path: Path) -> None:
    from datasets import load_from_disk

    saved = load_from_disk(str(save_to_disk(tmp_path / "saved")))
    saved["train"].to_parquet(str(tmp_path / "train.parquet"))
    assert load(files={"train": str(tmp_path / "train.parquet")}).class_names("label") == ("bad", "good")


@pytest.mark.parametrize("column", ["text", "label", "nope"])
def test_a_csv_file_declares_no_class_names(folder: Path, column: str) -> None:
    assert load(path=str(folder)).class_names(column) is None


# --- fingerprints


def test_one_changed_byte_changes_the_fingerprint(folder: Path) -> None:
    before = load(path=str(folder)).fingerprint
    content = (folder / "train.csv").read_bytes()
    (folder / "train.csv").write_bytes(content.replace(b"cat", b"car"))
    assert load(path=str(folder)).fingerprint != before


def test_one_changed_byte_changes_the_rows(folder: Path) -> None:
    load(path=str(folder))
    content = (folder / "train.csv").read_bytes()
    (folder / "train.csv").write_bytes(content.replace(b"cat", b"car"))
    assert load(path=str(folder)).column("text")[0] == "the car"


def test_a_copy_of_a_file_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_bytes((folder / "train.csv").read_bytes())
    assert load(files={"train": str(copy)}).fingerprint == load(path=str(folder)).fingerprint


def test_one_changed_byte_of_a_saved_data_set_changes_the_fingerprint(tmp_path: Path) -> None:
    path = save_to_disk(tmp_path / "saved")
    before = load(path=str(path)).fingerprint
    (arrow,) = (path / "train").glob("*.arrow")
    content = arrow.read_bytes()
    arrow.unlink()  # the old one may still be mapped
    arrow.write_bytes(content.replace(b"the cat", b"the car"))
    assert load(path=str(path)).fingerprint != before


def test_other_columns_of_the_same_file_have_another_fingerprint(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", ("a", "b", "label"), [("x", "y", "0")])
    first, second = (load(path=str(tmp_path), text=name).fingerprint for name in "ab")
    assert first != second


def test_other_quoting_of_the_same_file_has_another_fingerprint(tmp_path: Path) -> None:
    write_table(tmp_path / "train.tsv", ("text", "label"), [("x", "y")])
    first, second = (load(path=str(tmp_path), quoting=how).fingerprint for how in ("none", "minimal"))
    assert first != second


def test_another_separator_is_seen(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text;label\na cat;x\n", encoding="utf-8")

    assert "line 1: ';' separates the cells; expected commas" in problem(path=str(tmp_path))


def test_a_column_of_many_values_is_hardly_a_label(tmp_path: Path) -> None:
    table = write_table(tmp_path / "train.csv", ("text", "id"), [(f"text {n}", f"n{n}") for n in range(30)])

    with pytest.raises(DataError, match="30 different labels in 30 rows"):
        load(files={"train": str(table)}, validation_fraction=0.1, label="id")
