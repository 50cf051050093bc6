"""A server for the real wandb SDK on 127.0.0.1, from the standard library: what this project asks for and no more.

It keeps the lines of every run as a wandb server does: by the offset they are sent with, so that a
line sent again replaces itself. A run is resumed from the lines that are here, never from what was sent.
Artifacts are kept as a wandb server keeps them too: one of the same content as one that is here is that one, and none
is whole before its files have come. Views (workspaces and reports) are kept by id.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.stub_server import StubServer

_HISTORY, _SUMMARY = "wandb-history.jsonl", "wandb-summary.json"


@dataclass
class StubArtifact:
    """One version of an artifact; ``asked`` is how it was created."""

    number: int
    asked: dict[str, Any]
    created_at: str
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.asked["artifactTypeName"]


class WandbStub(StubServer):
    """``with WandbStub() as stub``: serves ``stub.url`` on a thread of its own until the block ends."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.lines: dict[str, dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))  # by run, file, line
        self.configs: dict[str, str] = {}  # by run
        self.about: dict[str, dict[str, Any]] = defaultdict(dict)  # name, group, job type and tags, by run
        self.exit_codes: dict[str, int] = {}  # by run that was finished
        self.artifacts: list[StubArtifact] = []
        self.num_sent: Counter[str] = Counter()  # artifacts that were sent, by type, whether they were here or not
        self.views: dict[str, dict[str, Any]] = {}  # by id
        self.failure: int | None = None  # an HTTP status for every answer; 0: hang up without one
        self.on_lines: Callable[[], None] = lambda: None  # called when lines have come, before that is answered

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
        project = {"name": values.get("project"), "entity": {"name": "me"}}
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
            about = {key: values[key] for key in ("displayName", "groupName", "jobType", "tags") if values[key]}
            self.about[values["name"]] |= about
            return {
                "upsertBucket": {"bucket": {**self._bucket(values["name"]), "project": project}, "inserted": inserted}
            }
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in values["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return self._answer_artifact(operation, values) or self._answer_view(operation, values)

    # ---- artifacts --------------------------------------------------------------------------

    def of_kind(self, kind: str) -> list[StubArtifact]:
        """The whole artifacts of a type, in the order in which they came."""
        return [artifact for artifact in self.artifacts if artifact.kind == kind and artifact.state == "COMMITTED"]

    def _answer_artifact(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        if operation == "ArtifactType":
            return {"project": None}
        if operation == "CreateArtifact":
            artifact = self._artifact(values["input"])
            return {"createArtifact": {"artifact": {**_identity(artifact), "artifactSequence": {}}}}
        if operation in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            name = operation[0].lower() + operation[1:]
            number = values.get("artifactID") or values["artifactManifestID"]
            file = {"id": number, "uploadUrl": f"{self.url}/artifact/{number}/manifest", "uploadHeaders": []}
            return {name: {"artifactManifest": {"id": number, "file": file}}}
        if operation == "CreateArtifactFiles":
            files = [
                {
                    **dict.fromkeys(("storagePath", "uploadMultipartUrls")),
                    **{"id": spec["artifactID"], "name": spec["name"], "displayName": spec["name"]},
                    **{"uploadUrl": f"{self.url}/artifact/{spec['artifactID']}/{spec['name']}", "uploadHeaders": []},
                    "artifact": {"id": spec["artifactID"]},
                }
                for spec in values.get("artifactFiles") or values["input"]["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}}
        if operation == "CommitArtifact":
            artifact = self.artifacts[int(values["artifactID"])]
            artifact.state = "COMMITTED"
            return {"commitArtifact": {"artifact": {**_identity(artifact), "digest": artifact.asked["digest"]}}}
        if operation == "ArtifactByID":
            return {"artifact": self._described(self.artifacts[int(values["id"])])}
        return {}

    def _artifact(self, asked: dict[str, Any]) -> StubArtifact:
        """The artifact that is here with this content, or a new one."""
        self.num_sent[asked["artifactTypeName"]] += 1
        content = ("artifactTypeName", "artifactCollectionName", "digest")
        for artifact in self.artifacts:
            if all(artifact.asked[key] == asked[key] for key in content):
                return artifact
        self.artifacts.append(StubArtifact(len(self.artifacts), asked, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"))
        return self.artifacts[-1]

    def _described(self, artifact: StubArtifact) -> dict[str, Any]:
        asked = artifact.asked
        entity = {"name": asked["entityName"]}
        project = {"id": "1", "internalId": "1", "name": asked["projectName"], "entity": entity}
        collection = {"__typename": "ArtifactSequence", "name": asked["artifactCollectionName"], "project": project}
        alias = {"__typename": "ArtifactAlias", "id": "1", "alias": "latest", "artifactCollection": collection}
        unset = ("description", "ttlDurationSeconds", "ttlIsInherited", "historyStep", "updatedAt", "commitHash")
        return {
            **dict.fromkeys(unset),
            **_identity(artifact),
            "__typename": "Artifact",
            "artifactSequence": collection,
            "versionIndex": 0,
            "artifactType": {"name": artifact.kind},
            "metadata": asked["metadata"],
            "ttlIsInherited": True,
            "ttlDurationSeconds": -1,
            "tags": [],
            "size": sum(map(len, artifact.files.values())),
            "digest": asked["digest"],
            "fileCount": 1,
            "createdAt": artifact.created_at,
            "aliases": [alias],
        }

    # ---- views ------------------------------------------------------------------------------

    def _answer_view(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "1", "internalId": "1", "name": values.get("projectName"), "entityName": "me"}
        if operation == "GetDefaultEntity":
            return {"viewer": {"id": "1", "entity": "me"}}
        if operation == "ProjectInternalId":
            return {"project": project if self.configs else None}  # the first run of a project makes it
        if operation == "GetProjects":
            page = {"hasNextPage": False, "endCursor": None}
            return {"models": {"edges": [], "pageInfo": page}}
        if operation.lower() not in ("upsertview", "upsertview2"):
            return {}
        view_id = values.get("id") or f"view{len(self.views)}"
        inserted = view_id not in self.views
        self.views[view_id] = values
        kept = {key: values.get(key) for key in ("type", "name", "displayName", "description", "spec")}
        view = {**kept, "id": view_id, "project": project, "updatedAt": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        return {"upsertView": {"view": view, "inserted": inserted}}

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


def _identity(artifact: StubArtifact) -> dict[str, Any]:
    return {"id": str(artifact.number), "state": artifact.state}


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
            run_id, sent = self.path.split("/")[-2], json.loads(body)
            self.server.receive(run_id, sent.get("files") or {})
            if sent.get("complete"):
                self.server.exit_codes[run_id] = sent["exitcode"]
        if self.path.startswith("/artifact/"):
            number, name = self.path.removeprefix("/artifact/").split("/", 1)
            self.server.artifacts[int(number)].files[name] = body
        if self.path != "/graphql":
            return {}
        query = json.loads(body)
        match = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
        return {"data": self.server.answer(match[1] if match else "", query.get("variables") or {})}

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, *_: Any) -> None:
        """Say nothing of requests."""
