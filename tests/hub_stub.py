"""A Hugging Face hub on 127.0.0.1, from the standard library, for the real ``datasets`` and ``huggingface_hub``.

It serves repositories of one commit each: what the libraries ask for to resolve a revision, list files and read them.
"""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.stub_server import StubServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubStub(StubServer):
    """``with HubStub(repositories) as stub``: serves files by repository ("datasets/owner/name") and path."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        super().__init__(_Handler)
        self.repositories = repositories
        self.requests: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubStub

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if path == "/":
            return self._send(200, b"")
        if api := re.fullmatch(
            r"/api/((?:datasets|models)/[^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(.*))?", path
        ):
            return self._api(api[1], api[2], api[3], api[4], body)
        if file := re.fullmatch(r"/(?:(datasets/[^/]+/[^/]+)|([^/]+/[^/]+))/resolve/[^/]+/(.+)", path):
            return self._file(file[1] or f"models/{file[2]}", file[3])
        return self._missing("Entry")

    def _api(self, repository: str, what: str | None, revision: str | None, rest: str | None, body: bytes) -> None:
        files = self.server.repositories.get(repository)
        if files is None:
            return self._missing("Repo")
        if revision not in (None, "main", COMMIT):
            return self._missing("Revision")
        rows: list[dict[str, Any]] = [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in files.items()
        ]
        if what in (None, "revision"):
            siblings = [{"rfilename": path} for path in files]
            name = repository.split("/", 1)[1]
            return self._json({"id": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})
        if what == "paths-info":
            wanted = (
                json.loads(body)["paths"]
                if "json" in self.headers["Content-Type"]
                else parse_qs(body.decode())["paths"]
            )
            folders = [
                {"type": "directory", "path": p, "oid": "0"}
                for p in wanted
                if any(f.startswith(f"{p}/") for f in files)
            ]
            return self._json([row for row in rows if row["path"] in wanted] + folders)
        below = (rest or "").strip("/")
        inside = [row for row in rows if row["path"].startswith(f"{below}/" if below else "")]
        if "recursive=true" not in self.path.lower():
            depth = below.count("/") + 1 if below else 0
            below_here = {"/".join(row["path"].split("/")[: depth + 1]) for row in inside} - set(files)
            inside = [row for row in inside if row["path"].count("/") == depth]
            inside += [{"type": "directory", "path": path, "oid": "0"} for path in sorted(below_here)]
        return self._json(inside)

    def _file(self, repository: str, path: str) -> None:
        content = self.server.repositories.get(repository, {}).get(path)
        if content is None:
            return self._missing("Entry")
        start, end = 0, len(content) - 1
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, end = int(wanted[1]), min(end, int(wanted[2] or end))
        part = content[start : end + 1]
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {start}-{end}/{len(content)}",
        }
        return self._send(206 if wanted else 200, part, headers)

    def _missing(self, what: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": f"{what}NotFound"})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = _serve

    def log_message(self, *_: Any) -> None:
        """Say nothing of requests."""
