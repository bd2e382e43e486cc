"""`push`: put the published model of a run onto the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli.checkpoints import CARD, RECORD
from ftcli.config.checks import looks_local
from ftcli.config.loading import config_text, load_config
from ftcli.config.schema import Config
from ftcli.console import Console
from ftcli.errors import ConfigError, ModelError, RunError
from ftcli.hub import MODEL, Repository, explain, is_online, why_offline
from ftcli.runs import CONFIG, RunDirectory, read_json

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

# What ftcli and transformers write beside the weights.
_UPLOADED = {
    CONFIG,
    CARD,
    RECORD,
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "model.safetensors.index.json",
}


def push(run: str | Path, repo_id: str, *, private: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Upload a run's `model/` as one commit to a model repository, which is made if there is none.

    run: a finished run, or its `model/`. private: for a repository that is new. Paths of this machine are cut
    off the config that goes along. Returns a record with the address. Raises an FtcliError for whatever the user
    can mend: no finished model, a wrong name, no login, no permission, no connection.
    """
    console = console or Console()
    console.calm_libraries()
    folder = find_published(Path(run))
    if not is_online():
        raise ModelError(f"{why_offline()}, so nothing can be uploaded; connect, and try again")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    operations = _operations(folder)
    console.info(f"uploading {len(operations)} files of {folder} to {repo_id} …")
    api = HfApi()
    try:
        made = api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(made.repo_id).private:
            raise ConfigError(
                f"--private: {made.repo_id} is there already, and public; make it private, or name another"
            )
        commit = api.create_commit(made.repo_id, operations, commit_message="Upload a model fine-tuned with ftcli")
    except ConfigError:
        raise
    except HFValidationError as error:
        raise ConfigError(f"REPO_ID {repo_id!r}: {str(error).splitlines()[0]}. Give OWNER/NAME, or NAME") from None
    except Exception as error:
        # Whatever the client raises: no token, no permission, a broken connection.
        raise ModelError(explain(error, Repository(MODEL, repo_id), None)) from None
    record = {"model": str(folder), "repo_id": made.repo_id, "url": str(made), "commit": commit.oid}
    console.result(record, f"{made.repo_id}: {made}")
    return record


def find_published(path: Path) -> Path:
    """Return the `model/` of a finished run, or the path itself if it is one. Raises RunError if there is none."""
    run = RunDirectory(path)
    if run.is_run():
        if not run.model.is_dir():
            status = read_json(run.status).get("status", "unknown")
            raise RunError(f"{path}: the run ({status}) has published no model yet; only a finished run has one")
        return run.model
    missing = [name for name in (CONFIG, CARD, RECORD, "config.json") if not (path / name).is_file()]
    if missing:
        raise RunError(f"{path}: no published model ({missing[0]} is missing); expected a finished run, or its model/")
    return path


def _operations(folder: Path) -> list[CommitOperationAdd]:
    """List what is uploaded: what ftcli published there and nothing else, and the config without local places."""
    from huggingface_hub import CommitOperationAdd

    portable = config_text(_portable(load_config(folder / CONFIG))).encode()
    return [
        CommitOperationAdd(file.name, portable if file.name == CONFIG else file)
        for file in sorted(folder.iterdir())
        if file.name in _UPLOADED or file.suffix == ".safetensors"
    ]


def _portable(config: Config) -> Config:
    """Keep of every local path its last part: what lies where on this machine is nobody's business.

    With ./ before it, so that nobody takes it for the name of something on the Hub.
    """

    def name(path: str | None) -> str | None:
        return f"./{Path(path).name}" if path is not None and looks_local(path) else path

    data = config.data.model_copy(update={"path": name(config.data.path)})
    if data.files is not None:
        files = {split: name(path) for split, path in data.files.model_dump().items()}
        data = data.model_copy(update={"files": data.files.model_copy(update=files)})
    model = config.model.model_copy(update={"name_or_path": name(config.model.name_or_path)})
    return config.model_copy(update={"data": data, "model": model, "output_dir": name(config.output_dir)})
