"""A run directory's files are whole or absent, and a place that is taken is refused."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from ftcli import durable
from ftcli.checkpoints import find_saved_model
from ftcli.durable import find_damage, read_json, seal, sweep, write_json, write_whole_directory
from ftcli.errors import RunError
from ftcli.runs import RunWriter, check_free


def fill(folder: Path) -> None:
    (folder / "weights").write_text("new")


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    write_whole_directory(tmp_path / "model", fill)

    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_write_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left on device"):
        write_whole_directory(tmp_path / "model", fail)

    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    def private(folder: Path) -> None:
        fill(folder)
        (folder / "weights").chmod(0o600)

    write_whole_directory(tmp_path / "model", private)

    (tmp_path / "other").write_text("")
    expected = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "model" / "weights").stat().st_mode) == expected


def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text('{"step": 1')

    with pytest.raises(RunError, match=r"best\.json: cannot be read"):
        read_json(tmp_path / "best.json")


def test_a_file_where_the_run_should_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")

    with pytest.raises(RunError, match="not a directory"):
        check_free(tmp_path / "run", overwrite=True)


def test_an_empty_directory_is_free(tmp_path: Path) -> None:
    check_free(tmp_path, overwrite=False)


def test_a_run_without_a_saved_model_says_so(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "run", overwrite=False)

    with pytest.raises(RunError, match=r"the run \(running\) has saved no model yet"):
        find_saved_model(tmp_path / "run")


def test_status_keeps_what_was_known_before(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run", overwrite=False)

    writer.set_status("finished", step=3)

    status = read_json(writer.run.status)
    assert (status["status"], status["step"]) == ("finished", 3)
    assert "started" in status


def test_lines_are_appended_and_text_stays_text(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run", overwrite=False)

    writer.append("steps.jsonl", {"text": "naïve ✓"})
    writer.append("steps.jsonl", {"text": "second"})

    assert (tmp_path / "run" / "steps.jsonl").read_text(encoding="utf-8").splitlines() == [
        '{"text": "naïve ✓"}',
        '{"text": "second"}',
    ]


def test_records_after_a_step_are_cut_and_a_torn_line_with_them(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run", overwrite=False)
    for step in range(1, 6):
        writer.append("steps.jsonl", {"step": step})
    for step in (2, 4):
        writer.append("evaluations.jsonl", {"step": step})
    with (tmp_path / "run" / "steps.jsonl").open("a") as file:
        file.write('{"step": 3')  # as a crash leaves it

    writer.keep_until(steps=4, evaluations=2)

    assert (tmp_path / "run" / "steps.jsonl").read_text() == "".join(f'{{"step": {n}}}\n' for n in range(1, 5))
    assert (tmp_path / "run" / "evaluations.jsonl").read_text() == '{"step": 2}\n'


def test_a_writer_keeps_others_out_until_it_is_closed(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run", overwrite=False)

    assert writer.run.is_locked()
    with pytest.raises(RunError, match="is writing this run"):
        RunWriter.reopen(tmp_path / "run", last=None)
    writer.close()
    assert not writer.run.is_locked()
    RunWriter.reopen(tmp_path / "run", last=None).close()


def test_looking_whether_a_run_is_locked_is_not_writing_it(tmp_path: Path) -> None:
    """Workers that start at once look at once; each holds the lock for the moment in which it looks."""
    writer = RunWriter.create(tmp_path / "run", overwrite=False)
    writer.close()
    together = Barrier(8)

    def look(_: int) -> bool:
        together.wait()
        return writer.run.is_locked()

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(look, range(8 * 50)))


def test_a_sealed_directory_is_whole_and_other_files_in_it_do_not_matter(tmp_path: Path) -> None:
    fill(tmp_path)
    assert find_damage(tmp_path) == "manifest.json is missing or cannot be read"
    seal(tmp_path)
    (tmp_path / "notes").write_text("mine")

    assert find_damage(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "damage"), [("ne", "has 2 bytes of 3"), ("old", "has changed since it was written")]
)
def test_damage_is_told_by_size_and_by_content(tmp_path: Path, content: str, damage: str) -> None:
    fill(tmp_path)
    seal(tmp_path)
    (tmp_path / "weights").write_text(content)

    assert find_damage(tmp_path) == f"weights {damage}"


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", {"a": 1})

    assert read_json(tmp_path / "record.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_directory_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="See who removed the directory"):
        write_json(tmp_path / "gone" / "record.json", {})
    with pytest.raises(RunError, match="See who removed the directory"):
        write_whole_directory(tmp_path / "gone" / "model", fill)

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_gave_way_to_one_that_never_came_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".model.earlier").mkdir()
    (tmp_path / ".model.earlier" / "weights").write_text("old")
    sweep(tmp_path)

    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_that_has_come_stays(tmp_path: Path) -> None:
    (tmp_path / ".model.earlier").mkdir()
    (tmp_path / "model").mkdir()
    fill(tmp_path / "model")
    sweep(tmp_path)

    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_directory_that_cannot_be_renamed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one has been moved away by then."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")

    def fail(what: str, path: Path) -> None:
        if what == "before rename" and path.name == "model":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "watch", fail)
    with pytest.raises(RunError, match="Input/output error"):
        write_whole_directory(tmp_path / "model", fill)

    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
