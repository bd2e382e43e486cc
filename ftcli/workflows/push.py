"""`push`: put the published model of a run onto the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcli.checkpoints import CARD, RECORD
from ftcli.config.loading import load_config, with_local_paths
from ftcli.config.showing import config_text
from ftcli.console import Console
from ftcli.durable import read_json
from ftcli.errors import ConfigError, ModelError, RunError
from ftcli.hub import MODEL, Repository, explain, is_online, why_offline
from ftcli.runs import CONFIG, RunDirectory

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

    # What lies where on this machine is nobody's business; with ./ nobody takes the rest for a name on the Hub.
    portable = config_text(with_local_paths(load_config(folder / CONFIG), lambda path: f"./{Path(path).name}")).encode()
    return [
        CommitOperationAdd(file.name, portable if file.name == CONFIG else file)
        for file in sorted(folder.iterdir())
        if file.name in _UPLOADED or file.suffix == ".safetensors"
    ]
