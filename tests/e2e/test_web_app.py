"""The terminal app in a browser: a page, and a socket that only that page may use."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
import pytest

pytestmark = pytest.mark.nano


@pytest.fixture
def port() -> Iterator[int]:
    """Where ``mmagent web`` listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = int(free.getsockname()[1])
    command = [sys.executable, "-m", "mmagent", "web", "--port", str(number)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield number
    process.kill()
    process.wait()


async def page(session: aiohttp.ClientSession, port: int) -> str:
    for _ in range(300):
        try:
            async with session.get(f"http://127.0.0.1:{port}/") as answer:
                return await answer.text()
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.1)
    raise AssertionError("there is no page")


async def test_it_is_served_to_its_own_page_and_to_no_other(port: int) -> None:
    place, size = f"127.0.0.1:{port}", "width=100&height=30"
    async with aiohttp.ClientSession() as session:
        assert "mmagent" in await page(session, port)
        for origin in ("https://evil.example", f"http://evil.example:{port}", "null", ""):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(f"ws://{place}/ws?{size}", headers={"Origin": origin} if origin else {})
        async with session.ws_connect(f"ws://{place}/ws?{size}", headers={"Origin": f"http://{place}"}) as browser:
            seen = b""
            async with asyncio.timeout(60):
                while b"Ask something" not in seen:
                    seen += bytes((await browser.receive_bytes()) or b"")
            await browser.send_str(json.dumps(["stdin", "\x11"]))  # Ctrl-Q
            async with asyncio.timeout(60):
                while not (await browser.receive()).type.name.startswith("CLOS"):
                    pass
