"""Documents as bytes, whatever they are in, and everything that reads them. It knows readers; it knows no store.

Parsers run in processes of their own (`read.pool`); what listens to recordings and describes pictures are models of
this process.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from mmagent import nano
from mmagent.errors import InputError, MediaError, ModelError
from mmagent.knowledge.chunk import CHUNKER
from mmagent.knowledge.extract import Box, Extract
from mmagent.knowledge.manifest import AssetRow
from mmagent.knowledge.read import READER, ZIP, Options, needs_worker, read, type_of
from mmagent.media.sniff import sniff
from mmagent.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from mmagent.knowledge.read.pool import ReaderPool
    from mmagent.speech import Segment

MEMBER, SHOWN_MEMBER = "//", "!/"
"""Between the path of an archive and the name of a document in it, which no path of a file has; and in its uri."""

_LIMITS = {
    "image": "max_image_bytes",
    "audio": "max_audio_bytes",
    "video": "max_video_bytes",
    "zip": "max_archive_bytes",
}


_TEXTS = ("application/json", "application/jsonl", "application/x-subrip")


class Transcriber(Protocol):
    """What listens to recordings."""

    @property
    def fingerprint(self) -> str:
        """Differs where the same recording may become another text."""
        ...

    def segments(self, data: bytes, name: str) -> Sequence[Segment]:
        """What is said in the file of a recording or video, in order; nothing where nobody speaks."""
        ...


class Readers:
    """Reads documents of every kind.

    Args:
        options: How.
        transcriber: What listens; without it, recordings are refused and videos are silent.
        captioner: Describes a picture in words.
        looks: Names the embedder of pictures, where there is one.
        workers: Processes.
        timeout: For one document, in seconds.
    """

    def __init__(
        self,
        options: Options,
        *,
        transcriber: Transcriber | None = None,
        captioner: Callable[[PILImage], str] | None = None,
        looks: str = "",
        workers: int = 2,
        timeout: float = 300,
    ) -> None:
        self._options, self._transcriber, self._captioner, self._looks = options, transcriber, captioner, looks
        self._workers, self._timeout = workers, timeout
        self._pool: ReaderPool | None = None
        self._guard = Lock()

    def fingerprint(self, mime_type: str) -> str:
        """Names what a document of a type is read with; documents are read again where that has changed."""
        if mime_type.startswith("text/") or mime_type in _TEXTS:
            return f"chunker-{CHUNKER} reader-{READER}"
        sounds = mime_type.split("/")[0] in ("audio", "video") or mime_type == ZIP
        parts = [f"chunker-{CHUNKER}", self._options.fingerprint]
        parts += [self._transcriber.fingerprint if self._transcriber and sounds else "deaf", self._looks]
        parts.append(str(getattr(self._captioner, "fingerprint", self._captioner is not None)))
        return " ".join(parts)

    def fingerprint_of(self, row: AssetRow) -> str:
        """With what a document is read; of one that was refused the limits count too, as they may be why."""
        reading = self.fingerprint(row.mime_type)
        return reading if row.reason is None else f"{reading} {sorted(self._options.to_json().items())}"

    def limit(self, head: bytes) -> tuple[int, str]:
        """How many bytes a file may have by what its first bytes say it is, and the setting for that."""
        found = sniff(head) or ""
        field = _LIMITS.get("zip" if found == ZIP else found.split("/")[0], "max_document_bytes")
        return int(getattr(self._options, field)), field

    def type_of(self, data: bytes, name: str) -> str:
        """The MIME type of a document.

        Raises:
            InputError: It is of none that is taken in.
        """
        return type_of(data, name)

    def members(self, data: bytes) -> Iterator[tuple[str, bytes | str]]:
        """The documents of an archive by name: each its content, or the reason why there is none."""
        from mmagent.knowledge.read.archive import members

        return members(data, self._options)

    def submit(self, data: bytes, name: str) -> Future[Extract]:
        """Begins to read a document: here where its reader is harmless, else in another process."""
        if needs_worker(data, name):
            return self._workers_pool().submit(data, name, self._options)
        done: Future[Extract] = Future()
        try:
            done.set_result(read(data, name, self._options))
        except InputError as error:
            done.set_exception(error)
        return done

    def finished(self, extract: Extract, data: bytes, name: str) -> Extract:
        """What was read, with what is heard and seen in it in words.

        Raises:
            InputError: There is nothing that could be found.
        """
        kind = extract.mime_type.split("/")[0]
        if kind in ("audio", "video"):
            extract = self._heard(extract, data, name, kind)
        if self._captioner is not None and kind == "image":
            extract = self._described(extract, data)
        if kind == "image" and not (extract.text or self._looks or any(one.text for one in extract.pictures)):
            note = "no text was found in it, and no picture embedder is set: it is found by its name only"
            extract = replace(extract, notes=[*extract.notes, note])
        return extract

    def _heard(self, extract: Extract, data: bytes, name: str, kind: str) -> Extract:
        from mmagent.knowledge.read.sound import spoken
        from mmagent.knowledge.read.video import with_speech
        from mmagent.speech.engines.load import LITTLE

        if self._transcriber is None:
            missing = (
                "there is no speech model in this installation; set "
                f"{Settings.variable('speech_model')} to a folder with a Whisper model"
            )
            if kind == "audio":
                raise InputError(f"it is a recording, and {missing}")
            return replace(extract, notes=[*extract.notes, f"its sound is left out: {missing}"])
        try:
            segments = self._transcriber.segments(data, name)
        except (MediaError, ModelError) as error:
            if kind == "audio":
                raise
            return replace(extract, notes=[*extract.notes, f"its sound is left out: {error}"])
        notes = [LITTLE] if isinstance(self._transcriber, NanoEars) else []
        extract = replace(extract, notes=[*extract.notes, *notes])
        if kind == "video":
            return with_speech(extract, segments)
        try:
            return replace(spoken(segments, extract.mime_type, extract.title), notes=extract.notes)
        except InputError as error:
            raise InputError("; ".join([str(error), *notes])) from error

    def _described(self, extract: Extract, data: bytes) -> Extract:
        assert self._captioner is not None
        pictures = []
        for one in extract.pictures:
            try:
                caption = self._captioner(self.pixels(data, extract.mime_type, one.page, one.t0, one.box))
            except ModelError as error:
                return replace(extract, notes=[*extract.notes, f"it is not described: {error}"])
            pictures.append(replace(one, text="\n".join(filter(None, (caption, one.text)))))
        return replace(extract, pictures=pictures)

    def pixels(
        self, data: bytes, mime_type: str, page: int | None, t0: float | None, box: Box | None = None
    ) -> PILImage:
        """A page, picture or frame of a document, or the part of it in a box.

        Raises:
            InputError: There is no such thing in it, or it cannot be shown.
        """
        from PIL import Image

        from mmagent.knowledge.read.pixels import crop

        png = self._workers_pool().pixels(data, mime_type, self._options, page=page, t0=t0).result()
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        return crop(picture, box) if box else picture

    def clip(self, data: bytes, t0: float, t1: float) -> bytes:
        """What is heard in a recording or video from one second to another: a WAV file, 16 kHz, one channel.

        Raises:
            InputError: There is no sound in it, or it is damaged.
        """
        return self._workers_pool().clip(data, self._options, t0, t1).result()

    def _workers_pool(self) -> ReaderPool:
        with self._guard:
            if self._pool is None:
                from mmagent.knowledge.read.pool import ReaderPool

                self._pool = ReaderPool(self._workers, self._timeout)
            return self._pool

    def close(self) -> None:
        """Ends the processes."""
        with self._guard:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def load(self, path: str) -> bytes:
        """The bytes of a document, out of its archive if it is in one.

        Raises:
            InputError: It is not there any more.
        """
        from mmagent.knowledge.find import read_bytes

        file, _, member = path.partition(MEMBER)
        data, _ = read_bytes(Path(file), self.limit)
        if not member:
            return data
        found: Any = next((content for name, content in self.members(data) if name == member), None)
        if not isinstance(found, bytes):
            raise InputError(f"{member} is not in {file}")
        return found


class NanoEars:
    """The speech model that ships, loaded when there is a recording: most stores have none."""

    def __init__(self) -> None:
        nano.speech_folder()

    @property
    def fingerprint(self) -> str:
        """See `Transcriber.fingerprint`."""
        return str(self._loaded.fingerprint)

    def segments(self, data: bytes, name: str) -> Sequence[Segment]:
        """See `Transcriber.segments`."""
        return self._loaded.segments(data, name)

    @cached_property
    def _loaded(self) -> Transcriber:
        from mmagent.speech import load_transcriber

        return load_transcriber()


def transcriber_of(model: str | None) -> Transcriber | None:
    """The speech model of the settings, else nano; None where its weights are not in this installation."""
    if model is None:
        try:
            return NanoEars()
        except ModelError:
            return None
    from mmagent.speech import load_transcriber

    return load_transcriber(model)
