"""Payloads that would run if anything of the kind were loaded, and secrets that would be written: nothing is."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ConfigWriter, run_ftcli, save_tiny_model

CANARY = "hf_canaryCanaryCanaryCanaryCanary"


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.sentinel)!r}, 'w').close()",)


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def edit_config(model: Path, name: str = "config.json", **changes: Any) -> None:
    path = model / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_47_the_payload_works(sentinel: Path) -> None:
    """Negative control."""
    pickle.loads(pickle.dumps(Payload(sentinel)))  # noqa: S301 - our own

    assert sentinel.exists()


def test_47_pickled_weights_are_not_loaded(write_config: ConfigWriter, tmp_path: Path, sentinel: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": Payload(sentinel)}))
    found = run_ftcli("train", write_config(model={"name_or_path": str(model)}))

    assert found.returncode == 5
    assert "Traceback" not in found.stderr
    assert not sentinel.exists()


@pytest.mark.parametrize("name", ["AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer"])
def test_47_code_that_a_model_brings_along_does_not_run(
    write_config: ConfigWriter, tmp_path: Path, sentinel: Path, name: str
) -> None:
    model = save_tiny_model(tmp_path / "model")
    (model / "evil.py").write_text(f"open({str(sentinel)!r}, 'w').close()\nclass Evil: pass\n")
    edit_config(model, auto_map={name: "evil.Evil"})
    edit_config(model, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    run_ftcli("train", write_config(model={"name_or_path": str(model)}), "training.max_steps=1")

    assert not sentinel.exists()
    # Negative control: it would, for who trusts it.
    trusting = f"import transformers; transformers.{name}.from_pretrained({str(model)!r}, trust_remote_code=True)"
    subprocess.run([sys.executable, "-c", trusting], capture_output=True, timeout=60, check=False)
    assert sentinel.exists()


def test_47_an_attention_kernel_that_a_model_names_is_not_fetched(write_config: ConfigWriter, tmp_path: Path) -> None:
    """What is asked for explicitly wins: the run is that of a model that names none."""
    model = save_tiny_model(tmp_path / "model")
    edit_config(model, _attn_implementation="somebody/evil-kernel", attn_implementation="somebody/evil-kernel")
    found = run_ftcli("train", write_config(model={"name_or_path": str(model)}), "training.max_steps=1")

    assert found.returncode == 0, found.stderr
    assert "evil" not in (tmp_path / "run" / "model" / "config.json").read_text()


def test_47_a_metric_in_the_working_directory_does_not_run(
    write_config: ConfigWriter, tmp_path: Path, sentinel: Path
) -> None:
    for name in ("accuracy", "f1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(f"open({str(sentinel)!r}, 'w').close()\n")
    found = run_ftcli("train", write_config(), "training.max_steps=1", cwd=tmp_path)

    assert found.returncode == 0, found.stderr
    assert not sentinel.exists()


def test_47_a_tag_in_yaml_is_an_error(tmp_path: Path, sentinel: Path) -> None:
    path = tmp_path / "tag.yaml"
    path.write_text(f"model: !!python/object/apply:os.system ['touch {sentinel}']\n")
    found = run_ftcli("train", path)

    assert found.returncode == 2
    assert not sentinel.exists()


@pytest.mark.parametrize("overrides", [[], ["optimizer.learning_rate=1e30"], ["data.columns.label=none"]])
def test_49_a_token_is_written_nowhere(write_config: ConfigWriter, tmp_path: Path, overrides: list[str]) -> None:
    """In a run that ends well, one that diverges, and one that is refused."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text(CANARY)
    found = run_ftcli(
        "train", write_config(), *overrides, HF_TOKEN=CANARY, HF_HOME=str(home), FTCLI_CACHE=str(tmp_path / "cache")
    )
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != home / "token"]

    assert CANARY not in found.stdout + found.stderr
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []


def test_49_the_check_reads_what_a_run_writes(write_config: ConfigWriter, tmp_path: Path) -> None:
    """Negative control: a word of the command line is found, in environment.json."""
    run_ftcli("train", write_config(), "training.max_steps=1", f"output_dir={tmp_path / CANARY}")

    assert CANARY.encode() in (tmp_path / CANARY / "environment.json").read_bytes()
