"""A local server with the endpoints of the Hugging Face Hub that uploads and downloads of a model use.

It was written after what the client asks and expects, and has not been compared with the live site.
"""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_local"
REGULAR = 10_000  # bytes; larger files are stored as LFS objects


class Hub(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        private: repository → whether it was created as private.
        commits: repository → commits, oldest first: name and content of each file.
        objects: sha256 → content of LFS objects.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.objects: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def commit_id(number: int) -> str:
    return f"{number:040x}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body)))
        for name, content in headers.items():
            self.send_header(name.replace("_", "-"), content)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, code: str) -> None:
        self._answer({"error": "not found"}, 404, X_Error_Code=code, X_Error_Message="not found")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _path(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def do_PUT(self) -> None:
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == self._path()[-1]
        self.server.objects[self._path()[-1]] = content
        self._answer({})

    def do_POST(self) -> None:
        body, path = self._body(), self._path()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and path[0] != "verify":
            self._answer({"error": "Invalid username or password."}, 401)
        elif path == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif path == ["api", "validate-yaml"]:
            self._answer({"errors": [], "warnings": []})
        elif path[:2] == ["api", "models"] and path[4] == "preupload":
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] > REGULAR else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in files
            ]
            self._answer({"files": modes})
        elif path[-3:] == ["lfs", "objects", "batch"]:
            self._batch(json.loads(body)["objects"])
        elif path[0] == "verify":
            self._answer({})
        elif path[:2] == ["api", "models"] and path[4] == "commit":
            self._commit("/".join(path[2:4]), body)
        else:
            self._missing("EntryNotFound")

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.server.address}/{name}", "name": name}
        if name in self.server.private:
            self._answer({**url, "error": "You already created this model repo"}, 409)
            return
        is_private = asked.get("visibility") == "private" or asked.get("private") is True
        self.server.private[name], self.server.commits[name] = is_private, []
        self._answer(url)

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        def actions(oid: str) -> dict[str, Any]:
            places = {"upload": "objects", "verify": "verify"}
            return {kind: {"href": f"{self.server.address}/{place}/{oid}"} for kind, place in places.items()}

        answers = [{**entry, "actions": actions(entry["oid"])} for entry in objects]
        self._answer({"transfer": "basic", "objects": answers}, Content_Type="application/vnd.git-lfs+json")

    def _commit(self, name: str, body: bytes) -> None:
        commits = self.server.commits[name]
        files = dict(commits[-1]) if commits else {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        commits.append(files)
        identifier = commit_id(len(commits))
        url = f"{self.server.address}/{name}/commit/{identifier}"
        self._answer({"success": True, "commitOid": identifier, "commitUrl": url, "hookOutput": ""})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path()
        if path[0] == "objects":
            self._answer(self.server.objects[path[1]])
            return
        is_api = path[:2] == ["api", "models"]
        name, rest = ("/".join(path[2:4]), path[4:]) if is_api else ("/".join(path[:2]), path[2:])
        if name not in self.server.commits:
            self._missing("RepoNotFound")
            return
        commits = self.server.commits[name]
        number = len(commits) if len(rest) < 2 or rest[1] == "main" else _number(rest[1])
        if not 0 < number <= len(commits):
            self._missing("RevisionNotFound")
            return
        files, identifier = commits[number - 1], commit_id(number)
        if is_api and (not rest or rest[0] == "revision"):
            siblings = [{"rfilename": file} for file in files]
            self._answer({"id": name, "modelId": name, "sha": identifier, "siblings": siblings})
        elif is_api and rest[0] == "tree":
            self._answer([_described(file, content) for file, content in files.items()])
        elif rest[0] == "resolve" and "/".join(rest[2:]) in files:
            self._resolve(files["/".join(rest[2:])], identifier)
        else:
            self._missing("EntryNotFound")

    def _resolve(self, content: bytes, identifier: str) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        if len(content) <= REGULAR:
            self._answer(content, X_Repo_Commit=identifier, ETag=f'"{_blob(content)}"')
            return
        self._answer(
            b"",
            302,
            X_Repo_Commit=identifier,
            X_Linked_Etag=f'"{sha256}"',
            X_Linked_Size=str(len(content)),
            Location=f"http://localhost:{self.server.server_address[1]}/objects/{sha256}",  # another host
        )


def _number(revision: str) -> int:
    try:
        return int(revision, 16)
    except ValueError:
        return 0


def _blob(content: bytes) -> str:
    """Return the identifier that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _described(name: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}
    if len(content) > REGULAR:
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
    return entry
