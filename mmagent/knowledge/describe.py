"""Captions of pictures by a chat model that sees, so that pictures are found by words. It knows no stores."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.chat.protocol import ChatModel, ModelRequest, ModelText, Sampling
from mmagent.content import Message, text
from mmagent.errors import ConfigurationError, ModelError
from mmagent.media import BlobStore

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from PIL.Image import Image as PILImage

MAX_SIDE = 1024
"""Pixels of the picture that the model is shown."""
MAX_TOKENS = 120
MAX_CHARS = 600
"""Of a caption; the rest is cut at a word."""
TIMEOUT = 300.0
"""Seconds that one caption may take."""


class Captions:
    """Calls a chat model from synchronous code, in an event loop of its own: one for all calls, as clients need it.

    Args:
        model: The model.
        prompt: What it is asked.

    Raises:
        ConfigurationError: The model sees no pictures.
    """

    def __init__(self, model: ChatModel, prompt: str) -> None:
        if not model.capabilities.images:
            raise ConfigurationError(
                f"{model.name} sees no pictures, so it cannot describe them; take a model that does"
            )
        self._model, self._prompt = model, prompt
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Differs where the same picture may get another caption."""
        asked = f"{self._model.name}\0{self._prompt}\0{MAX_SIDE}\0{MAX_TOKENS}"
        return f"captions-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"

    def __call__(self, picture: PILImage) -> str:
        """One or two sentences on one line; empty where the model has nothing to say.

        Raises:
            ModelError: The model failed or took longer than `TIMEOUT`.
        """
        return _one_line(self._wait(self._ask(picture)))

    def close(self) -> None:
        """End the event loop; the next call starts another."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    async def _ask(self, picture: PILImage) -> str:
        with tempfile.TemporaryDirectory(prefix="mmagent-") as folder:
            blobs = BlobStore(Path(folder))
            width, height, data = _png(picture)
            message = Message(
                role="user",
                content=(
                    {
                        "type": "image",
                        "file_id": blobs.put(data, "image/png"),
                        "mime_type": "image/png",
                        "extras": {"width": width, "height": height, "name": "picture.png"},
                    },
                    text(self._prompt),
                ),
            )
            request = ModelRequest((message,), blobs, sampling=Sampling(max_tokens=MAX_TOKENS))
            return "".join([event.text async for event in self._model.stream(request) if isinstance(event, ModelText)])

    def _wait(self, asked: Coroutine[Any, Any, str]) -> str:
        coming = asyncio.run_coroutine_threadsafe(asked, self._started())
        try:
            return coming.result(TIMEOUT)
        except TimeoutError as error:
            coming.cancel()
            raise ModelError(f"{self._model.name} did not describe a picture within {TIMEOUT:.0f} s") from error
        except BaseException:  # Ctrl-C: the model stops too
            coming.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="mmagent-captions", daemon=True).start()
            return self._loop


def captions_by(model: ChatModel, prompts_dir: Path | None = None) -> Captions:
    """Describes pictures by a chat model that sees.

    Args:
        model: The model.
        prompts_dir: The user's own prompt templates, of which ``describe.md`` is used; None: the configured folder.

    Raises:
        ConfigurationError: The model sees no pictures, or the prompt is wrong.
    """
    from mmagent.prompts import render

    return Captions(model, render("describe", prompts_dir))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _png(picture: PILImage) -> tuple[int, int, bytes]:
    copy = picture.convert("RGB")
    copy.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    copy.save(file, "PNG")
    return copy.width, copy.height, file.getvalue()


def _one_line(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= MAX_CHARS else line[:MAX_CHARS].rsplit(" ", 1)[0] + " …"
