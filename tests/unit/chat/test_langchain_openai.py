"""A real client against an OpenAI-compatible server on the loopback interface, which streams like the real ones."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from mmagent.chat import LangChainModel, ModelDone, ModelRequest, ModelText, ModelToolCall, ToolSpec
from mmagent.content import Image, Message, text
from mmagent.errors import ModelError
from mmagent.media import BlobStore

pytest.importorskip("langchain_openai")


def part(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "1", "model": "tiny", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call_part(args: str, **rest: Any) -> dict[str, Any]:
    name = rest.pop("name", None)
    return part(
        {"tool_calls": [{"index": 0, "function": {"arguments": args} | ({"name": name} if name else {}), **rest}]}
    )


ANSWER = [
    part({"role": "assistant", "content": "Let me "}),
    part({"content": "look."}),
    call_part("", id="call_1", type="function", name="find"),
    call_part('{"code":'),
    call_part(' "A1"}'),
    part({}, "tool_calls"),
    {
        "id": "1",
        "model": "tiny",
        "choices": [],
        "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
    },
]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.hung_up = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if body["model"] == "locked":
            self.send_error(401, "Incorrect API key provided: sk-1234567890abcdef")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for data in ANSWER if body["model"] == "tiny" else self.endless():
                self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.hung_up.set()

    def endless(self) -> Iterator[dict[str, Any]]:
        while True:
            yield part({"content": "on and on "})

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def model_of(server: Server, name: str) -> LangChainModel:
    return LangChainModel(
        f"openai:{name}",
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
        api_key="sk-1234567890abcdef",
        max_retries=0,
    )


def request(tmp_path: Path) -> ModelRequest:
    blobs = BlobStore(tmp_path)
    picture = blobs.admit(Image(Pillow.new("RGB", (4, 4), "red")))
    find = ToolSpec("find", "Find an order.", {"type": "object", "properties": {"code": {"type": "string"}}})
    return ModelRequest((Message(role="user", content=(text("Where is it?"), picture)),), blobs, (find,))


async def test_pictures_and_tools_go_out_and_calls_come_back(server: Server, tmp_path: Path) -> None:
    events = [event async for event in model_of(server, "tiny").stream(request(tmp_path))]
    assert [event.text for event in events if isinstance(event, ModelText)] == ["Let me ", "look."]
    (called,) = [event.call for event in events if isinstance(event, ModelToolCall)]
    assert called == {"type": "tool_call", "id": "call_1", "name": "find", "args": {"code": "A1"}}
    done = events[-1]
    assert isinstance(done, ModelDone)
    assert (done.stop, done.usage.prompt_tokens, done.usage.completion_tokens) == ("tool_calls", 12, 6)
    (body,) = server.bodies
    words, picture = body["messages"][0]["content"]
    assert words == {"type": "text", "text": "Where is it?"}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert body["tools"][0]["function"]["name"] == "find"
    assert body["max_completion_tokens"] == 1024
    assert "temperature" not in body


async def test_closing_the_stream_hangs_up(server: Server, tmp_path: Path) -> None:
    stream = model_of(server, "endless").stream(request(tmp_path))
    async with aclosing(stream):
        assert await anext(stream) == ModelText("on and on ")
    assert await asyncio.to_thread(server.hung_up.wait, 10)


async def test_a_refused_key_is_not_repeated(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"openai:locked failed: .*; check the API key") as caught:
        [event async for event in model_of(server, "locked").stream(request(tmp_path))]
    assert "1234567890" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_no_server_is_one_line(tmp_path: Path) -> None:
    model = LangChainModel("openai:tiny", base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0)
    with pytest.raises(ModelError, match="check the address and that the server is running"):
        [event async for event in model.stream(request(tmp_path))]
