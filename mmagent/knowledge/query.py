"""What is asked for, in any modality, as texts and pictures to search with. It knows media and no store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmagent.content import Audio, Image
from mmagent.errors import InputError
from mmagent.knowledge.sources import Transcriber
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Asked = str | Image | Audio


@dataclass(frozen=True)
class Query:
    """What is looked for."""

    texts: tuple[str, ...] = ()
    pictures: tuple[PILImage, ...] = ()


def query_of(asked: Asked | Sequence[Asked], *, sees: bool, transcriber: Transcriber | None) -> Query:
    """The texts and pictures of a query; a recording is what is said in it.

    Args:
        asked: One or several of them.
        sees: Whether pictures can be searched with; else the text in them is.
        transcriber: Listens to recordings.

    Raises:
        InputError: A file cannot be used, or there is nothing in it to search with.
    """
    from mmagent.media.images import decode_image
    from mmagent.media.source import read_source

    if not isinstance(asked, str | Image | Audio | Sequence):
        raise InputError(f"a search is for a text, Image or Audio, or several of them, not {type(asked).__name__}")
    texts, pictures = list[str](), list["PILImage"]()
    for one in [asked] if isinstance(asked, str | Image | Audio) else list(asked):
        if isinstance(one, str):
            texts.append(one.encode("utf-8", "replace").decode())
        elif isinstance(one, Image):
            name, data = read_source(one.source, settings())
            pictures.append(decode_image(data, name))
        elif isinstance(one, Audio):
            name, data = read_source(one.source, settings(), "recording")
            texts.append(_heard(data, name, transcriber))
        else:
            raise InputError(f"a search is for a text, Image or Audio, not {type(one).__name__}")
    if pictures and not sees:
        texts += filter(None, map(_read, pictures))
        if not any(text.strip() for text in texts):
            raise InputError(
                "no text was found in the picture to search with, and there is no picture embedder; "
                f"set {Settings.variable('picture_embedder')} to one"
            )
    return Query(tuple(text for text in texts if text.strip()), tuple(pictures))


def _heard(data: bytes, name: str, transcriber: Transcriber | None) -> str:
    if transcriber is None:
        variable = Settings.variable("speech_model")
        why = "there is no speech model in this installation"
        raise InputError(f"{name} is a recording, and {why}; set {variable} to a folder with one")
    return " ".join(segment.text.strip() for segment in transcriber.segments(data, name))


def _read(picture: PILImage) -> str:
    from mmagent.media.ocr import recognise, rows_of

    return "\n".join(" ".join(piece["text"] for piece in row) for row in rows_of(recognise(picture)))
