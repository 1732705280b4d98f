"""What a hit points at: the picture of a page, a picture, a frame, or the sound. It knows the manifest and readers.

Documents are not copied into the store: they are read again where they are, and must still be what was taken in.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from mmagent.errors import InputError
from mmagent.knowledge.cite import Hit
from mmagent.knowledge.embed import PictureEmbedder
from mmagent.knowledge.manifest import AssetRow, Manifest
from mmagent.knowledge.sources import Readers
from mmagent.knowledge.spaces import complete, is_ready, vectors_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

log = logging.getLogger(__name__)


def picture(manifest: Manifest, readers: Readers, hit: Hit, *, box: bool, crop: bool) -> PILImage:
    """The page, picture or frame that a hit is on, RGB; its place outlined (``box``) or nothing else shown (``crop``).

    Raises:
        InputError: It has none, or its file has changed or gone since it was taken in.
    """
    from mmagent.knowledge.read import pixels

    if hit.page is None and not hit.is_picture and not hit.mime_type.startswith(("image/", "video/")):
        raise InputError(f"there is no picture of a passage of {hit.uri}; pages, pictures and videos have one")
    row = _source(manifest, hit)
    shown = readers.pixels(content(readers, row), row.mime_type, hit.page, hit.t0)
    if hit.box is None or not (box or crop):
        return shown
    return pixels.crop(shown, hit.box) if crop else pixels.outline(shown, hit.box)


def sound(manifest: Manifest, readers: Readers, hit: Hit) -> bytes:
    """What is heard of a hit: a WAV file, 16 kHz, one channel.

    Raises:
        InputError: There is none, or its file has changed or gone since it was taken in.
    """
    if hit.t0 is None or hit.t1 is None:
        raise InputError(f"there is nothing to hear of a passage of {hit.uri}; recordings and videos have sound")
    return readers.clip(content(readers, _source(manifest, hit)), hit.t0, hit.t1)


def content(readers: Readers, row: AssetRow) -> bytes:
    """The bytes of a document, which are still those that were taken in.

    Raises:
        InputError: They are not, or it is gone.
    """
    data = readers.load(row.path)
    if hashlib.sha256(data).hexdigest() != row.digest:
        raise InputError(f"{row.uri} has changed since it was taken in; add it again")
    return data


def complete_pictures(manifest: Manifest, readers: Readers, embedder: PictureEmbedder) -> None:
    """Has the space of an embedder of pictures hold every picture whose document is still what was taken in."""
    if is_ready(manifest, "picture", embedder.fingerprint):
        return

    def look(batch: list[tuple[int, str, str]]) -> tuple[list[int], NDArray[np.float32]]:
        import numpy as np

        seen, pictures = [], []
        for number, unit in manifest.units([number for number, _, _ in batch]).items():
            try:
                row = manifest.asset_of(unit["asset"])
                assert row is not None
                box = json.loads(unit["box"]) if unit["box"] else None
                pictures.append(readers.pixels(content(readers, row), row.mime_type, unit["page"], unit["t0"], box))
                seen.append(number)
            except InputError as error:
                log.warning("%s is not looked at: %s", unit["uri"], error)
        if not seen:
            return [], np.zeros((0, 0), np.float32)
        return seen, vectors_of(embedder.embed_pictures, pictures)

    complete(manifest, "picture", embedder, look)


def _source(manifest: Manifest, hit: Hit) -> AssetRow:
    row = manifest.asset_with(hit.id)
    if row is None:
        raise InputError(f"{hit.uri} is not in the store any more; search again")
    return row
