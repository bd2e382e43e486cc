"""The Hub: whether it answers, found out before its client is imported, and what its errors mean to a person."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ftcli.config.checks import is_on_hub
from ftcli.config.schema import Config
from ftcli.console import Console
from ftcli.errors import ModelError

MODEL, DATA = "model", "data set"
_PROBE_SECONDS = 2.0
# An answer is believed for so long; a notebook may come back when the network does.
_VALID_SECONDS = 60.0
# Set beside HF_HUB_OFFLINE when it was us who found the Hub silent.
_SILENT = "FTCLI_HUB_SILENT"
# What the clients raise when a connection fails, and behind all of them when the file is not in the cache either.
_BROKEN = {"NetworkError", "ProtocolError", "TimeoutException", "LocalEntryNotFoundError"}
_probed: dict[str, tuple[float, bool]] = {}


class Repository(NamedTuple):
    """Something of the Hub that a run needs. kind: MODEL or DATA."""

    kind: str
    name: str

    @property
    def is_cached(self) -> bool:
        """Whether the cache of huggingface_hub or datasets knows it at all."""
        prefix = "models" if self.kind == MODEL else "datasets"
        parts = self.name.split("/")
        places = [hub_cache() / "--".join((prefix, *parts))]
        if self.kind == DATA:
            places.append(_datasets_cache() / "___".join(parts))
        return any(place.is_dir() for place in places)


def needed_repositories(config: Config, *, reads_data: bool = True) -> list[Repository]:
    """List what a run needs of the Hub. reads_data: whether it reads the splits of its config."""
    needed = [Repository(MODEL, config.model.name_or_path)]
    if reads_data and config.data.path is not None:
        needed.append(Repository(DATA, config.data.path))
    return [repository for repository in needed if is_on_hub(repository.name)]


def check_hub(needed: Iterable[Repository]) -> str | None:
    """See that what is needed of the Hub can be had, from it or from the cache; return what is worth telling.

    If the Hub does not answer, its clients are told to work offline (they would retry for a minute): the variable
    is read when they are imported, so call this before. Raises ModelError for what is not in the cache either.
    """
    needed = list(needed)
    if not needed or is_online():
        return None
    missing = [f"{repository.kind} {repository.name!r}" for repository in needed if not repository.is_cached]
    if missing:
        raise ModelError(
            f"{why_offline()}, and the cache ({hub_cache()}) has no {' and no '.join(missing)}. Connect once to "
            "download, or name local ones with model.name_or_path and data.path"
        )
    return f"{why_offline()}: working from the cache"


def tell_hub(config: Config, console: Console) -> None:
    """See that what a run needs of the Hub can be had, and say so where that is the cache. Raises ModelError if not."""
    note = check_hub(needed_repositories(config))
    if note:
        console.info(note)


def is_online() -> bool:
    """Whether the Hub answers; if not, its clients are told."""
    if _is_offline():
        return False
    endpoint = _endpoint()
    if not _answers(endpoint):
        _set_offline(endpoint)
        return False
    return True


def why_offline() -> str:
    """Say why nothing is asked of the Hub."""
    silent = os.environ.get(_SILENT)
    return f"{silent} does not answer" if silent else "HF_HUB_OFFLINE is set"


def explain(error: BaseException, repository: Repository, revision: str | None) -> str:
    """Say what a failed download means, and what to do: the error of the client is somewhere in the chain."""
    kind, name = repository
    links = list(_chain(error))
    names = {cls.__name__ for link in links for cls in type(link).__mro__}
    status = next((code for link in links if (code := _status(link)) is not None), None)
    page = f"{_endpoint()}/{'datasets/' if kind == DATA else ''}{name}"
    where = f"{kind} {name!r}"
    if "GatedRepoError" in names or "gated dataset" in str(error):
        return f"{where}: is gated; ask for access at {page}, then log in: hf auth login, or set HF_TOKEN"
    if "RevisionNotFoundError" in names:
        key = "model.revision" if kind == MODEL else "data.revision"
        return f"{where}: has no revision {revision!r}; see {page}, and correct {key}"
    if "OfflineModeIsEnabled" in names or _is_offline():
        told = f"not wholly in the cache ({hub_cache()}), and {why_offline()}"
        return f"{where}: {told}. Connect once to download, or name a local directory"
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return f"{where}: not on the Hub ({_endpoint()}), or private; check the name, or log in: hf auth login"
    if status == 401:
        return f"{where}: {_endpoint()} wants a login (401); log in with hf auth login, or set HF_TOKEN"
    if status is not None and status >= 400 and status != 404:
        what = "does not allow it: your token lacks the right" if status == 403 else "answers with an error"
        return f"{where}: {_endpoint()} {what} ({status}): {_line(links[-1])}"
    if names & _BROKEN:
        return f"{where}: the connection to {_endpoint()} broke; what is whole is kept, so try again"
    reason = " ".join(dict.fromkeys((_line(error, 2), _line(links[-1]))))
    return f"{where}: cannot be loaded: {reason}"


def _line(error: BaseException, num_lines: int = 1) -> str:
    """Return the first lines of what an error says."""
    told = (str(error).strip() or type(error).__name__).splitlines()[:num_lines]
    return " ".join(line.strip() for line in told).rstrip(".")


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an answer that was an error."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _is_offline() -> bool:
    """Whether offline work was asked for, by a person or by us while our finding is fresh."""
    silent = os.environ.get(_SILENT)
    if silent is not None and time.monotonic() - _probed.get(silent, (time.monotonic(), False))[0] > _VALID_SECONDS:
        return False
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _set_offline(endpoint: str) -> None:
    os.environ.update({"HF_HUB_OFFLINE": "1", _SILENT: endpoint})
    _tell_clients(offline=True)


def _tell_clients(*, offline: bool) -> None:
    """Reach the clients that were imported before, as in a notebook."""
    for module in ("huggingface_hub.constants", "datasets.config"):
        if module in sys.modules:
            sys.modules[module].HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]


def _answers(endpoint: str) -> bool:
    """Whether anything answers there, within two seconds and looked up once a minute."""
    moment, answered = _probed.get(endpoint, (0.0, False))
    if endpoint in _probed and time.monotonic() - moment < _VALID_SECONDS:
        return answered
    found: list[bool] = []
    # In a thread of its own: looking a name up knows no time limit.
    probe = threading.Thread(target=lambda: found.append(_connects(endpoint)), daemon=True)
    probe.start()
    probe.join(_PROBE_SECONDS)
    answers = bool(found and found[0])
    _probed[endpoint] = (time.monotonic(), answers)
    if answers and _SILENT in os.environ:
        del os.environ[_SILENT]
        os.environ.pop("HF_HUB_OFFLINE", None)
        _tell_clients(offline=False)
    return answers


def _connects(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and parts.hostname and not urllib.request.proxy_bypass(parts.hostname):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        # Half of the time for each address, so that a dead IPv6 route leaves time for IPv4.
        socket.create_connection((parts.hostname or "", port), timeout=_PROBE_SECONDS / 2).close()
    except OSError:
        return False
    return True


def hub_cache() -> Path:
    """Where huggingface_hub keeps files; see its documentation of environment variables."""
    return Path(
        os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or _hub_home() / "hub"
    ).expanduser()


def _datasets_cache() -> Path:
    return Path(os.environ.get("HF_DATASETS_CACHE") or _hub_home() / "datasets").expanduser()


def _hub_home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(cache) / "huggingface").expanduser()
