"""A server for the real wandb SDK on 127.0.0.1, from the standard library: what one run asks for and no more.

It keeps the lines of every run as a wandb server does: by the offset they are sent with, so that a
line sent again replaces itself. A run is resumed from the lines that are here, never from what was sent.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any

_HISTORY, _SUMMARY = "wandb-history.jsonl", "wandb-summary.json"


class WandbStub(ThreadingHTTPServer):
    """``with WandbStub() as stub``: serves ``stub.url`` on a thread of its own until the block ends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lines: dict[str, dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))  # by run, file, line
        self.configs: dict[str, str] = {}  # by run
        self.failure: int | None = None  # an HTTP status for every answer; 0: hang up without one
        self.on_lines: Callable[[], None] = lambda: None  # called when lines have come, before that is answered
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "WandbStub":
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a killed client leaves its connections open."""

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """A run's history, in order."""
        return [json.loads(line) for _, line in sorted(self.lines[run_id][_HISTORY].items())]

    def steps(self, run_id: str) -> list[int]:
        """The ``step`` of every row of a run's history, in order."""
        return [row["step"] for row in self.rows(run_id)]

    def summary(self, run_id: str) -> dict[str, Any]:
        return json.loads(self.lines[run_id][_SUMMARY].get(0, "{}"))

    def receive(self, run_id: str, files: dict[str, Any]) -> None:
        for name, part in files.items():
            self.lines[run_id][name].update(enumerate(part["content"], part["offset"]))
        self.on_lines()

    def answer(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer; empty for an operation that nothing depends on."""
        project = {"name": "p", "entity": {"name": "me"}}
        if operation == "Viewer":
            return {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "RunResumeStatus":
            bucket = self._bucket(values["name"]) if values["name"] in self.configs else None
            return {"model": {**project, "bucket": bucket}}
        if operation == "UpsertBucket":
            inserted = values["name"] not in self.configs
            self.configs[values["name"]] = values["config"]
            return {
                "upsertBucket": {"bucket": {**self._bucket(values["name"]), "project": project}, "inserted": inserted}
            }
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in values["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if operation == "ArtifactType":
            return {"project": None}
        if operation == "CreateArtifact":  # of a table; the server has its files already
            return {"createArtifact": {"artifact": {"id": "1", "state": "COMMITTED", "artifactSequence": {}}}}
        return {}

    def _bucket(self, run_id: str) -> dict[str, Any]:
        lines, config = self.lines[run_id], self.configs[run_id]
        tail = [line for _, line in sorted(lines[_HISTORY].items())][-1:]
        return {
            "id": run_id,
            "name": run_id,
            "displayName": run_id,
            "config": config,
            "summaryMetrics": lines[_SUMMARY].get(0, "{}"),
            "historyLineCount": len(lines[_HISTORY]),
            "historyTail": json.dumps(tail),
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "logLineCount": 0,
            "tags": [],
            "wandbConfig": json.dumps(json.loads(config)["_wandb"]["value"]),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbStub

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = self.server.failure, {}
        if status == 0:
            self.close_connection = True
            return
        if status is None:
            status, answer = 200, self._answer(body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, body: bytes) -> dict[str, Any]:
        if self.path.endswith("/file_stream"):
            self.server.receive(self.path.split("/")[-2], json.loads(body).get("files") or {})
        if self.path != "/graphql":
            return {}
        query = json.loads(body)
        match = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
        return {"data": self.server.answer(match[1] if match else "", query.get("variables") or {})}

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, *_: Any) -> None:
        """Say nothing of requests."""
