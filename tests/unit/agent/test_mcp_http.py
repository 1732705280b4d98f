"""MCP servers over HTTP that break, flood and lie: the caller gets a typed error, and the next call works."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")

from mmagent.agent.tools import AnyTool, ToolContext
from mmagent.agent.tools.mcp import MCPServer, connection, transport
from mmagent.errors import ToolError

NAMES = ("echo", "long", "line", "huge", "packed", "spam", "cut", "broken", "gone")


class Handler(BaseHTTPRequestHandler):
    """Does what the name of the tool says."""

    protocol_version = "HTTP/1.1"
    session = ""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method, request = asked["method"], asked.get("id")
        if request is None:
            self.reply(b"", status=202)
        elif method == "initialize":
            info = {"name": "web", "version": "0"}
            self.result(request, {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            self.result(request, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]})
        elif method == "tools/call":
            getattr(self, asked["params"]["name"])(request)
        else:
            error = {"code": -32601, "message": "no such method"}
            self.reply(json.dumps({"jsonrpc": "2.0", "id": request, "error": error}).encode())

    def do_GET(self) -> None:
        self.reply(b"", status=405)

    def do_DELETE(self) -> None:
        self.reply(b"", status=405)

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        if self.session:
            self.send_header("mcp-session-id", self.session)
        for key, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def result(self, request: int, result: Any) -> None:
        self.reply(json.dumps({"jsonrpc": "2.0", "id": request, "result": result}).encode())

    def echo(self, request: int) -> None:
        self.result(request, {"content": [{"type": "text", "text": "hello"}]})

    def huge(self, request: int) -> None:
        self.result(request, {"content": [{"type": "text", "text": "x" * 2_000_000}]})

    def events(self, *messages: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for message in messages:
            self.wfile.write(f"event: message\ndata: {json.dumps({'jsonrpc': '2.0', **message})}\n\n".encode())
        self.close_connection = True

    def long(self, request: int) -> None:
        note = {"method": "notifications/message", "params": {"level": "info", "data": "x" * 300_000}}
        self.events(*[note] * 5, {"id": request, "result": {"content": [{"type": "text", "text": "at last"}]}})

    def line(self, request: int) -> None:
        self.events({"id": request, "result": {"content": [{"type": "text", "text": "x" * 2_000_000}]}})

    def packed(self, request: int) -> None:
        self.reply(gzip.compress(b" " * 100_000), content_encoding="gzip")

    def spam(self, request: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "spam"}}
        try:
            while True:
                self.wfile.write(f"event: message\ndata: {json.dumps(note)}\n\n".encode())
        except OSError:
            self.close_connection = True

    def cut(self, request: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"jsonrpc"')
        self.close_connection = True

    def broken(self, request: int) -> None:
        self.reply(b"Traceback", status=500)

    def gone(self, request: int) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.daemon_threads = True
        thread = threading.Thread(target=web.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{web.server_address[1]}/mcp"
        web.shutdown()
        thread.join()


@pytest.fixture
def tools(url: str) -> Iterator[dict[str, AnyTool]]:
    with MCPServer(url=url, timeout=10) as server:
        yield {tool.name: tool for tool in server.mmagent_tools()}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("huge", "sent more than 1 MiB at once"),
        ("packed", "compressed its answer"),
        ("spam", "sent more than 300 messages within 10 s"),
        ("cut", "is gone"),
        ("broken", "refused: Server returned an error response"),
        ("gone", "is gone"),
    ],
)
async def test_what_goes_wrong_is_a_tool_error_and_the_next_call_works(
    tools: dict[str, AnyTool], name: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_MESSAGE", transport.MIB)
    monkeypatch.setattr(transport, "MAX_MESSAGES", 300)
    with pytest.raises(ToolError, match=why):
        await tools[name].call({}, ToolContext())
    assert (await tools["echo"].call({}, ToolContext())).content == "hello"


async def test_an_event_stream_may_be_as_long_as_it_likes(
    tools: dict[str, AnyTool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_MESSAGE", transport.MIB)
    assert (await tools["long"].call({}, ToolContext())).content == "at last"


async def test_one_event_may_not(tools: dict[str, AnyTool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_MESSAGE", transport.MIB)
    with pytest.raises(ToolError, match="sent more than 1 MiB at once"):
        await tools["line"].call({}, ToolContext())


def test_closing_does_not_wait_for_one_that_says_no_farewell(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "END_TIMEOUT", 0.05)
    waiting = threading.Event()
    monkeypatch.setattr(Handler, "do_DELETE", lambda self: waiting.wait(30))
    monkeypatch.setattr(Handler, "session", "s1")
    server, before = MCPServer(url=url), threading.enumerate()
    server.mmagent_tools()
    (thread,) = [one for one in threading.enumerate() if one not in before and one.name.startswith("the MCP server")]
    server.close()
    waiting.set()
    assert not thread.is_alive()
