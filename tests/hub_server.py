"""A small Hub on this machine: the part of the Hub's HTTP interface that huggingface_hub and datasets ask for.

Model and data repositories with one commit on `main`, small files inline and large ones behind a redirect as on the
Hub, uploads, gated repositories, and connections that break. Every request is logged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet")


@dataclass
class Repository:
    """The files of one repository at its one commit. kind: models or datasets.

    stored: SHA-256 of the large files that were pushed.
    """

    kind: str
    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    is_gated: bool = False
    is_private: bool = False

    @classmethod
    def of(cls, kind: str, name: str, folder: Path, **options: Any) -> Repository:
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return cls(kind, name, files, **options)

    @property
    def commit(self) -> str:
        content = b"".join(name.encode() + self.files[name] for name in sorted(self.files))
        return hashlib.sha1(content, usedforsecurity=False).hexdigest()

    def etag(self, path: str) -> str:
        content = self.files[path]
        if path.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "file", "path": path, "oid": self.etag(path), "size": len(self.files[path])}
        if path.endswith(LARGE):
            found["lfs"] = {"oid": self.etag(path), "size": len(self.files[path]), "pointerSize": 134}
        return found

    def info(self) -> dict[str, Any]:
        return {
            "_id": self.commit,
            "id": self.name,
            "sha": self.commit,
            "private": self.is_private,
            "gated": "auto" if self.is_gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sorted(self.files)],
        }


def matching(log: list[str], method: str, part: str) -> list[str]:
    """Return the requests of a method whose path has a part."""
    return [line for line in log if line.startswith(f"{method} ") and part in line]


class HubServer(ThreadingHTTPServer):
    """The server; use it as a context manager. breaks: path -> bytes after which the connection breaks.

    stalls: paths that are never answered; reached: set when one of them is asked for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.log: list[str] = []
        self.breaks: dict[str, int] = {}
        self.stalls: set[str] = set()
        self.reached, self._closes = threading.Event(), threading.Event()
        self.blobs: dict[str, bytes] = {}
        self.xet_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def files_url(self) -> str:
        return f"http://localhost:{self.server_address[1]}"

    def add(self, repository: Repository) -> Repository:
        self.repositories[repository.kind, repository.name] = repository
        return repository

    def asked(self, method: str, part: str) -> list[str]:
        """Return the logged requests of a method whose path has a part."""
        return matching(self.log, method, part)

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def stall(self) -> None:
        """Keep a request waiting until the server closes."""
        self.reached.set()
        self._closes.wait()

    def __exit__(self, *exception: object) -> None:
        self._closes.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_POST(self) -> None:
        self._answer(with_body=True)

    def do_PUT(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: object) -> None:
        """Keep quiet: the log is a list."""

    def _answer(self, *, with_body: bool) -> None:
        self.with_body = with_body
        self.sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        path = unquote(parts.path).strip("/")
        self.server.log.append(f"{self.command} /{path}")
        routes: list[tuple[str, Callable[[str], None]]] = [
            ("api/repos/create", self._create),
            ("api/whoami-v2", lambda path: self._json({"name": "tester", "type": "user", "orgs": []})),
            ("api/validate-yaml", lambda path: self._json({"errors": [], "warnings": []})),
            ("api/models/", self._api),
            ("api/datasets/", self._api),
            ("blobs/", self._blob),
            ("v1/", self._xet),
        ]
        for prefix, route in routes:
            if path.startswith(prefix):
                return route(path.removeprefix(prefix))
        return self._resolve(path)

    # --- repositories

    def _find(self, kind: str, name: str, revision: str) -> Repository | None:
        """Return the repository if it may be read at this revision; else answer as the Hub does."""
        found = self.server.repositories.get((kind, name))
        allowed = self.headers.get("Authorization", "").startswith("Bearer hf_")
        if found is None or (found.is_private and not allowed):
            self._error(401 if not allowed else 404, "RepoNotFound", "Repository not found")
            return None
        if found.is_gated and not allowed:
            self._error(401, "GatedRepo", f"Access to {kind[:-1]} {name} is restricted. You must be authenticated.")
            return None
        if revision not in ("main", found.commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return found

    def _api(self, rest: str) -> None:
        kind = self.path.split("/")[2]
        parts = rest.split("/")
        name, action, revision, inner = "/".join(parts[:2]), parts[2:3], parts[3:4] or ["main"], "/".join(parts[4:])
        repository = self._find(kind, name, revision[0])
        if repository is None:
            return
        if action in ([], ["revision"]):
            self._json(repository.info())
        elif action == ["tree"]:
            self._tree(repository, inner)
        elif action == ["paths-info"]:
            wanted = json.loads(self.sent)["paths"] if self._sent_json() else parse_qs(self.sent.decode())["paths"]
            self._json([repository.entry(path) for path in wanted if path in repository.files])
        elif action == ["preupload"]:
            asked = json.loads(self.sent)["files"]
            mode = {True: "lfs", False: "regular"}
            self._json(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": mode[f["path"].endswith(LARGE)], "shouldIgnore": False}
                        for f in asked
                    ]
                }
            )
        elif action == ["xet-write-token"]:
            self._json({"accessToken": "xet", "exp": 2**32, "casUrl": self.server.url})
        elif action == ["commit"]:
            self._commit(repository)
        else:
            self._error(404, "EntryNotFound", f"no {self.path}")

    def _tree(self, repository: Repository, inner: str) -> None:
        below = {path for path in repository.files if not inner or path.startswith(f"{inner}/")}
        entries = [repository.entry(path) for path in sorted(below)]
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            prefix = f"{inner}/" if inner else ""
            folders = sorted(
                {path.removeprefix(prefix).split("/")[0] for path in below if "/" in path.removeprefix(prefix)}
            )
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
            entries += [
                {"type": "directory", "path": prefix + folder, "oid": "0" * 40, "size": 0} for folder in folders
            ]
        if not below and inner:
            self._error(404, "EntryNotFound", f"{inner} does not exist")
        else:
            self._json(entries)

    def _resolve(self, path: str) -> None:
        before, found, after = path.partition("/resolve/")
        if not found:
            return self._error(404, "EntryNotFound", f"no {path}")
        kind = "datasets" if before.startswith("datasets/") else "models"
        revision, _, inner = after.partition("/")
        repository = self._find(kind, before.removeprefix("datasets/"), revision)
        if repository is None:
            return None
        headers = {"X-Repo-Commit": repository.commit}
        if inner not in repository.files:
            return self._error(404, "EntryNotFound", f"{inner} does not exist", headers)
        headers["ETag"] = f'"{repository.etag(inner)}"'
        if not inner.endswith(LARGE):
            return self._bytes(repository.files[inner], headers, inner)
        content = repository.files[inner]
        self.server.blobs[repository.etag(inner)] = content
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content))}
        # Another host, as the Hub has for large files: one that redirects to itself has renamed a repository.
        headers["Location"] = f"{self.server.files_url}/blobs/{repository.etag(inner)}/{inner}"
        return self._send(302, b"", headers)

    def _blob(self, rest: str) -> None:
        name, _, inner = rest.partition("/")
        self._bytes(self.server.blobs[name], {"ETag": f'"{name}"'}, inner)

    # --- uploads

    def _create(self, rest: str) -> None:
        asked = json.loads(self.sent)
        name = asked["name"] if not asked.get("organization") else f"{asked['organization']}/{asked['name']}"
        name = name if "/" in name else f"tester/{name}"
        if not self.headers.get("Authorization", "").startswith("Bearer hf_"):
            return self._error(401, None, "Invalid username or password.")
        kind = f"{asked.get('type') or 'model'}s"
        told = {"url": f"{self.server.url}/{name}", "name": name, "id": name}
        if (kind, name) in self.server.repositories:
            body = json.dumps({"error": f"You already created this {kind[:-1]} repo", **told}).encode()
            return self._send(409, body, {"Content-Type": "application/json"})
        is_private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.server.add(Repository(kind, name, is_private=is_private))
        return self._json(told)

    def _xet(self, path: str) -> None:
        """Take what the Xet client stores: blocks of large files, and the list of which block holds what."""
        if path.startswith("xorbs/"):
            self.server.xet_bytes += len(self.sent)
            self._json({"was_inserted": True})
        elif path == "shards":
            self._json({"result": 1})
        else:
            self._error(404, None, f"no {path}")

    def _commit(self, repository: Repository) -> None:
        for line in self.sent.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                # The blocks are packed; what is kept of a large file is its hash, which the client computed.
                repository.stored[value["path"]] = value["oid"]
        self._json(
            {
                "success": True,
                "commitOid": repository.commit,
                "commitUrl": f"{self.server.url}/{repository.name}/commit/{repository.commit}",
                "pullRequestUrl": None,
                "hookOutput": "",
            }
        )

    # --- answers

    def _sent_json(self) -> bool:
        return "json" in self.headers.get("Content-Type", "")

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> None:
        told = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), {"Content-Type": "application/json", **told})

    def _bytes(self, content: bytes, headers: dict[str, str], path: str) -> None:
        """Send a file, or the part that is asked for, or less where the connection is to break."""
        if path in self.server.stalls and self.with_body:
            self.server.stall()
        status, start = 200, 0
        total = len(content)
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start = int(first or 0)
            end = min(int(last) if last else total - 1, total - 1)
            status, content = 206, content[start : end + 1]
            headers = {**headers, "Content-Range": f"bytes {start}-{end}/{total}"}
        self._send(status, content, {**headers, "Accept-Ranges": "bytes"}, self.server.breaks.get(path))

    def _send(self, status: int, body: bytes, headers: dict[str, str], breaks_after: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.with_body:
            self.wfile.write(body if breaks_after is None else body[:breaks_after])
            if breaks_after is not None and breaks_after < len(body):
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
