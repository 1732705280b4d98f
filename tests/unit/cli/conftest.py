"""A server on this machine that speaks as much of the hub's protocol as a download needs, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from mmagent.testing import tiny_vlm

COMMIT = "c0ffee" * 6 + "abcd"
LARGE = 100_000
"""Bytes from which the hub keeps a file by its sha256, as it does what is in git-lfs."""


@dataclass
class Hub:
    """One model, ``org/tiny``, and what goes wrong with it."""

    files: dict[str, bytes]
    address: str = ""
    refuses: tuple[int, str] | None = None
    """A status and an X-Error-Code for every request."""
    cut: int | None = None
    """The first answer with more bytes than that breaks there."""
    hold: int | None = None
    """The first answer with more bytes than that waits there until ``go``."""
    ranges: bool = True
    spoil: bool = False
    listing: dict[str, Any] | None = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """File name and Range of each GET."""
    held: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def code(self, name: str) -> str:
        """The hash that the hub gives for a file."""
        data = self.files[name]
        if len(data) >= LARGE:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()

    def info(self) -> dict[str, Any]:
        """What /api/models answers."""
        siblings = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": self.code(name)}
            if len(data) >= LARGE:
                entry |= {"blobId": "0" * 40, "lfs": {"sha256": self.code(name), "size": len(data), "pointerSize": 135}}
            siblings.append(entry)
        return {"id": "org/tiny", "modelId": "org/tiny", "sha": COMMIT, "siblings": siblings}


class Handler(BaseHTTPRequestHandler):
    """Answers as huggingface.co does."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.hub.refuses:
            status, code = self.hub.refuses
            self._send(status, b"", {"X-Error-Code": code} if code else {})
        elif path == "/api/models/org/tiny":
            self._send(200, json.dumps(self.hub.listing or self.hub.info()).encode(), {})
        elif path.startswith("/org/tiny/resolve/") and (name := path.split("/")[-1]) in self.hub.files:
            self._file(name)
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _file(self, name: str) -> None:
        data, wanted = self.hub.files[name], self.headers.get("Range")
        headers = {"ETag": f'"{self.hub.code(name)}"', "X-Repo-Commit": COMMIT}
        status, start = 200, 0
        if self.command == "GET":
            self.hub.requests.append((name, wanted))
            if self.hub.spoil and len(data) >= LARGE:
                data = data[:-1] + bytes([data[-1] ^ 1])
        if wanted and self.hub.ranges:
            status, start = 206, int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(status, data[start:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "GET":
            return
        with suppress(ConnectionError):
            if self.hub.cut is not None and len(body) > self.hub.cut:
                body, self.hub.cut, self.close_connection = body[: self.hub.cut], None, True
            if self.hub.hold is not None and len(body) > self.hub.hold:
                first, self.hub.hold = self.hub.hold, None
                self.wfile.write(body[:first])
                self.hub.held.set()
                self.hub.go.wait(30)
                body = body[first:]
            self.wfile.write(body)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.go.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A real model's files, and what must never be downloaded."""
    folder: Path = tiny_vlm(tmp_path_factory.mktemp("models") / "tiny")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    refused = (
        "pytorch_model.bin",
        "modeling_tiny.py",
        "weights.pkl",
        "pytorch_model.bin.index.json",
        "onnx/model.json",
    )
    return files | dict.fromkeys(refused, b"never")


@pytest.fixture
def hub(tiny_files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub of the test's own with the model ``org/tiny``."""
    with serving(Hub(dict(tiny_files))) as served:
        yield served
