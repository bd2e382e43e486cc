"""The Hub path, against a server on this machine. Each command is a fresh process that sees only where the Hub is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import pair_rows, save_tiny_model
from hub_server import HubServer, Repository, matching

MRPC = Path(__file__).parents[1] / "configs" / "mrpc.yaml"
# Each of these takes half a minute, most of it to start Python; a sibling of it runs by default.
SLOW = pytest.mark.slow
SPLITS = {"train": (43, 0), "validation": (17, 100), "test": (9, 200)}
README = "---\nconfigs:\n- config_name: mrpc\n  data_files:\n" + "".join(
    f"  - split: {split}\n    path: mrpc/{split}-*\n" for split in SPLITS
)


def save_glue(folder: Path) -> Path:
    """Lay a data set out as GLUE is on the Hub: a README with the configs, and parquet shards with class names."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {
        "sentence1": {"dtype": "string", "_type": "Value"},
        "sentence2": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["not_equivalent", "equivalent"], "_type": "ClassLabel"},
        "idx": {"dtype": "int32", "_type": "Value"},
    }
    (folder / "mrpc").mkdir(parents=True)
    (folder / "README.md").write_text(f"{README}---\n# GLUE\n", encoding="utf-8")
    for split, (count, first) in SPLITS.items():
        firsts, seconds, labels = zip(*pair_rows(count, first=first), strict=True)
        table = pa.table(
            {
                "sentence1": list(firsts),
                "sentence2": list(seconds),
                "label": pa.array(labels, pa.int64()),
                "idx": pa.array(range(count), pa.int32()),
            }
        )
        named = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": kinds}})})
        parquet.write_table(named, folder / "mrpc" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What lies on the Hub: the files of a model and of a data set."""
    folder = tmp_path_factory.mktemp("hub")
    return save_tiny_model(folder / "bert", dropout=0.0), save_glue(folder / "glue")


@contextmanager
def open_hub(folders: tuple[Path, Path]) -> Iterator[HubServer]:
    with HubServer() as server:
        server.add(Repository.of("models", "tiny/bert", folders[0]))
        server.add(Repository.of("datasets", "nyu-mll/glue", folders[1]))
        yield server


@pytest.fixture
def hub(folders: tuple[Path, Path]) -> Iterator[HubServer]:
    with open_hub(folders) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def environment(hub: HubServer | str, home: Path) -> dict[str, str]:
    """Return what a process sees that knows HF_ENDPOINT and HF_HOME, and no other setting of the Hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FTCLI_"))}
    url = hub if isinstance(hub, str) else hub.url
    return {**kept, "HF_ENDPOINT": url, "HF_HOME": str(home), "FTCLI_CACHE": str(home / "ftcli")}


def ftcli(hub: HubServer | str, home: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ftcli in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ftcli", *map(str, arguments)],
        cwd=home.parent,
        env={**environment(hub, home), **more},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train(hub: HubServer | str, home: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return ftcli(hub, home, "train", MRPC, "model.name_or_path=tiny/bert", "training.epochs=1", *arguments, **more)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if not line.startswith("loading libraries")]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- what works


class Downloaded(NamedTuple):
    """A first run, and what the server was asked for in it."""

    hub: HubServer
    home: Path
    done: subprocess.CompletedProcess[str]
    log: list[str]


@pytest.fixture(scope="module")
def downloaded(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Downloaded]:
    """`configs/mrpc.yaml` with only the model's name overridden, into an empty cache."""
    home = tmp_path_factory.mktemp("downloaded") / "home"
    with open_hub(folders) as server:
        done = train(server, home, "-q", "--json")
        yield Downloaded(server, home, done, list(server.log))


def test_mrpc_trains_with_only_the_models_name_overridden(downloaded: Downloaded) -> None:
    hub, home, done, log = downloaded
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["best"]["num_examples"] == SPLITS["validation"][0]
    model, data = (hub.repositories[key] for key in (("models", "tiny/bert"), ("datasets", "nyu-mll/glue")))
    environment = json.loads((home.parent / "runs" / "mrpc" / "environment.json").read_text(encoding="utf-8"))
    assert environment["model_commit"] == model.commit
    # The weights and each split came once, from behind the redirect, and no pickle was asked for.
    weights = f"GET /blobs/{model.etag('model.safetensors')}/model.safetensors"
    assert matching(log, "GET", "model.safetensors") == [weights]
    assert sorted(matching(log, "GET", ".parquet")) == sorted(
        f"GET /blobs/{data.etag(name)}/{name}" for name in data.files if name.endswith(".parquet")
    )
    assert matching(log, "GET", "pytorch_model") == matching(log, "GET", ".py") == []
    assert matching(log, "POST", "") == matching(log, "PUT", "") == []


def test_a_second_run_downloads_nothing_again(downloaded: Downloaded) -> None:
    hub, home, *_ = downloaded
    hub.log.clear()

    done = train(hub, home, "-q", "output_dir=runs/two")

    assert done.returncode == 0, done.stderr
    assert hub.asked("GET", "/blobs/") == hub.asked("GET", "/resolve/main/config.json") == []


def test_what_was_downloaded_serves_offline(downloaded: Downloaded) -> None:
    hub, home, first, _ = downloaded
    hub.log.clear()

    asked_for = train(hub, home, "-q", "--json", "output_dir=runs/asked", HF_HUB_OFFLINE="1")
    unreachable = train("http://127.0.0.1:9", home, "--json", "output_dir=runs/unreachable")

    scores = [json.loads(done.stdout)["best"]["scores"] for done in (first, asked_for, unreachable)]
    assert scores[0] == scores[1] == scores[2]
    assert "http://127.0.0.1:9 does not answer: working from the cache" in unreachable.stderr
    assert hub.log == []


def test_a_commit_pins_model_and_data(hub: HubServer, home: Path) -> None:
    commits = [repository.commit for repository in hub.repositories.values()]

    done = train(hub, home, "-q", f"model.revision={commits[0]}", f"data.revision={commits[1]}")

    assert done.returncode == 0, done.stderr


def test_a_token_opens_a_gated_model_and_is_written_nowhere(hub: HubServer, home: Path, tmp_path: Path) -> None:
    hub.repositories["models", "tiny/bert"].is_gated = True

    done = train(hub, home, "-q", HF_TOKEN="hf_canary")  # noqa: S106 - a canary, no secret

    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "status.json"} <= {path.name for path in written}
    assert not [path for path in written if b"hf_canary" in path.read_bytes()]
    assert "hf_canary" not in done.stdout + done.stderr


def test_init_looks_at_a_data_set_of_the_hub(hub: HubServer, home: Path) -> None:
    done = ftcli(hub, home, "init", "nyu-mll/glue", "--name", "mrpc", "--json")

    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["text"], record["label"]) == (["sentence1", "sentence2"], "label")
    assert list(record["labels"]) == ["not_equivalent", "equivalent"]
    config = (home.parent / "ftcli.yaml").read_text(encoding="utf-8")
    assert "path: nyu-mll/glue\n" in config
    assert "name: mrpc\n" in config


# --- what does not


@pytest.mark.parametrize(
    ("endpoint", "settings"),
    [("https://huggingface.invalid", {}), ("http://127.0.0.1:9", {}), ("http://127.0.0.1:9", {"HF_HUB_OFFLINE": "1"})],
    ids=["no such host", "nobody listens", "offline is asked for"],
)
def test_50_offline_with_an_empty_cache_is_one_error_before_anything_heavy_is_imported(
    home: Path, endpoint: str, settings: dict[str, str]
) -> None:
    """No wall clock: what takes seconds is torch and the retries of the clients, and neither is reached."""
    done = train(endpoint, home, PYTHONPROFILEIMPORTTIME="1", **settings)

    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    told = [line for line in errors(done) if not line.startswith("import time:")]
    why = "HF_HUB_OFFLINE is set" if settings else f"{endpoint} does not answer"
    assert done.returncode == 5
    assert told == [
        f"error: {why}, and the cache ({home / 'hub'}) has no model 'tiny/bert' and no data set 'nyu-mll/glue'. "
        "Connect once to download, or name local ones with model.name_or_path and data.path"
    ]
    assert not imported & {"torch", "huggingface_hub", "datasets", "transformers"}
    assert not home.exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.revision=nope"], "error: model 'tiny/bert': has no revision 'nope'"),
        (["data.revision=nope"], "error: data set 'nyu-mll/glue': has no revision 'nope'"),
        pytest.param(["model.name_or_path=tiny/bart"], "error: model 'tiny/bart': not on the Hub", marks=SLOW),
        pytest.param(["data.path=nyu-mll/glu"], "error: data set 'nyu-mll/glu': not on the Hub", marks=SLOW),
        (["data.name=mrcp"], "mrcp"),
    ],
)
def test_what_the_hub_does_not_have_is_one_error(hub: HubServer, home: Path, overrides: list[str], words: str) -> None:
    done = train(hub, home, *overrides)

    assert (done.returncode, len(errors(done)), done.stdout) == (5, 1, "")
    assert words in errors(done)[0]
    assert not (home.parent / "runs").exists()


@pytest.mark.parametrize(("kind", "name"), [("models", "tiny/bert"), ("datasets", "nyu-mll/glue")])
def test_50_a_gated_repository_says_where_to_ask(hub: HubServer, home: Path, kind: str, name: str) -> None:
    hub.repositories[kind, name].is_gated = True

    done = train(hub, home)

    page = f"{hub.url}/{name}" if kind == "models" else f"{hub.url}/datasets/{name}"
    assert (done.returncode, len(errors(done))) == (5, 1)
    assert f"'{name}': is gated; ask for access at {page}, then log in" in errors(done)[0]


@pytest.mark.parametrize(
    ("file", "after"),
    [
        ("model.safetensors", 5_000),
        pytest.param("mrpc/train-00000-of-00001.parquet", 700, marks=SLOW),
        pytest.param("tokenizer.json", 50, marks=SLOW),
    ],
)
def test_a_connection_that_breaks_leaves_nothing_half_and_the_next_run_works(
    hub: HubServer, home: Path, file: str, after: int
) -> None:
    hub.breaks[file] = after

    broken = train(hub, home)

    assert (broken.returncode, len(errors(broken))) == (5, 1), broken.stderr
    assert f"the connection to {hub.url} broke; what is whole is kept, so try again" in errors(broken)[0]
    assert not any(name.endswith(file) for name in files(home / "hub"))
    assert not (home.parent / "runs").exists()

    hub.breaks.clear()
    assert train(hub, home, "-q").returncode == 0


@pytest.mark.parametrize(
    ("number", "codes"), [(signal.SIGTERM, (-15, 143)), pytest.param(signal.SIGINT, (130,), marks=SLOW)]
)
def test_19_a_signal_while_downloading_ends_it_at_once_with_nothing_half(
    hub: HubServer, home: Path, number: signal.Signals, codes: tuple[int, ...]
) -> None:
    """The weights are asked for and never come."""
    hub.stalls.add("model.safetensors")
    process = subprocess.Popen(
        [sys.executable, "-m", "ftcli", "train", MRPC, "model.name_or_path=tiny/bert", "training.epochs=1"],
        cwd=home.parent,
        env=environment(hub, home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert hub.reached.wait(timeout=120)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert process.returncode in codes, told
    assert "Traceback" not in told
    assert not (home.parent / "runs").exists()
    hub.stalls.clear()
    assert train(hub, home, "-q").returncode == 0


# --- push


@pytest.fixture(scope="module")
def finished(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on local files."""
    from ftcli.console import Console
    from ftcli.workflows import train as run_training

    folder = tmp_path_factory.mktemp("finished")
    overrides = [
        f"model.name_or_path={folders[0]}",
        f"data.path={folders[1] / 'mrpc'}",
        "data.name=null",
        "data.train_split=train-00000-of-00001",
        "data.validation_split=validation-00000-of-00001",
        "training.epochs=1",
        f"output_dir={folder / 'paraphrases'}",
    ]
    run_training(MRPC, overrides, console=Console(quiet=True))
    return folder / "paraphrases"


def push(hub: HubServer | str, home: Path, run: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return ftcli(hub, home, "push", run, "tester/paraphrases", "--json", *arguments, **{"HF_TOKEN": "hf_x", **more})


@pytest.mark.parametrize("private", [[], ["--private"]], ids=["public", "private"])
def test_a_pushed_model_is_the_published_one(hub: HubServer, home: Path, finished: Path, private: list[str]) -> None:
    done = push(hub, home, finished, *private)

    assert done.returncode == 0, done.stderr
    pushed = hub.repositories["models", "tester/paraphrases"]
    local = {path.name: path.read_bytes() for path in (finished / "model").iterdir()}
    weights = local.pop("model.safetensors")
    del local["manifest.json"]  # which is for us
    assert pushed.files.keys() == local.keys()
    assert [name for name in local if pushed.files[name] != local[name]] == ["config.yaml"]
    assert pushed.stored == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert hub.xet_bytes > 0.5 * len(weights)
    assert (json.loads(done.stdout)["commit"], pushed.is_private) == (pushed.commit, bool(private))


def test_no_place_of_this_machine_is_pushed(hub: HubServer, home: Path, finished: Path) -> None:
    push(hub, home, finished)

    pushed = hub.repositories["models", "tester/paraphrases"]
    assert not [name for name, content in pushed.files.items() if str(finished.parent.parent).encode() in content]
    assert b"train_split: train-00000-of-00001" in pushed.files["config.yaml"]


def test_what_else_lies_in_the_model_folder_stays_here(
    hub: HubServer, home: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "model", tmp_path / "model")
    (tmp_path / "model" / ".env").write_text("SECRET=1", encoding="utf-8")
    (tmp_path / "model" / ".git").mkdir()

    done = push(hub, home, tmp_path / "model")

    assert done.returncode == 0, done.stderr
    assert ".env" not in hub.repositories["models", "tester/paraphrases"].files


def test_a_folder_with_a_config_and_a_readme_is_no_model(hub: HubServer, home: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "README.md", ".env"):
        (tmp_path / name).touch()

    done = push(hub, home, tmp_path)

    assert (done.returncode, hub.log) == (4, [])


def test_a_private_push_onto_a_public_repository_is_refused(hub: HubServer, home: Path, finished: Path) -> None:
    hub.add(Repository("models", "tester/paraphrases"))

    done = push(hub, home, finished, "--private")

    assert (done.returncode, hub.asked("POST", "/commit/")) == (2, [])
    assert "--private: tester/paraphrases is there already, and public" in done.stderr


def test_a_second_push_is_a_second_commit(hub: HubServer, home: Path, finished: Path) -> None:
    codes = [push(hub, home, finished).returncode for _ in range(2)]

    assert codes == [0, 0]
    assert len(hub.asked("POST", "/commit/main")) == 2


def test_without_a_login_nothing_is_pushed(hub: HubServer, home: Path, finished: Path) -> None:
    done = push(hub, home, finished, HF_TOKEN="")

    assert done.returncode == 5
    assert [line for line in errors(done) if not line.startswith("uploading")] == [
        f"error: model 'tester/paraphrases': {hub.url} wants a login (401); log in with hf auth login, or set HF_TOKEN"
    ]
    assert ("models", "tester/paraphrases") not in hub.repositories


def test_offline_nothing_is_pushed(home: Path, finished: Path) -> None:
    done = push("http://127.0.0.1:9", home, finished)

    assert done.returncode == 5
    assert "http://127.0.0.1:9 does not answer, so nothing can be uploaded" in done.stderr


def test_only_a_finished_run_can_be_pushed(hub: HubServer, home: Path, tmp_path: Path) -> None:
    done = push(hub, home, tmp_path)

    assert (done.returncode, hub.log) == (4, [])
    assert (
        f"{tmp_path}: no published model (config.yaml is missing); expected a finished run, or its model/"
        in done.stderr
    )


def test_a_wrong_name_is_told_before_anything_is_asked(hub: HubServer, home: Path, finished: Path) -> None:
    done = ftcli(hub, home, "push", finished, "a/b/c")

    assert (done.returncode, hub.log) == (2, [])
    assert "REPO_ID 'a/b/c'" in done.stderr
