"""The ladder that pictures go down where room is short: smaller, caption, reference. It knows pictures, no journal."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Literal, get_args

from mmagent.agent.context.budget import Budget
from mmagent.agent.context.shown import Shown, smaller_block
from mmagent.content import MediaBlock
from mmagent.media import BlobStore
from mmagent.session.replay import Level, PictureState

SMALLER_SAVES = 0.1
"""A picture is shown smaller where that takes at least this share of its tokens."""
CAPTION_CHARS = 400
JPEG_QUALITY = 90
LEVELS: Sequence[Level] = get_args(Level)


@dataclass(frozen=True)
class Step:
    """One picture, one level or more down."""

    number: int
    block: MediaBlock
    level: Literal["smaller", "caption", "reference"]
    note: str
    """What stands in its place; of a smaller picture, its file id."""
    saves: float
    """Tokens, about."""


@dataclass
class Ladder:
    """Reduces the pictures of a conversation."""

    shown: Shown
    budget: Budget
    texts: dict[str, str] = field(default_factory=dict)
    """Those in pictures, by file id."""

    async def steps(self, excess: float, *, current: bool) -> list[Step]:
        """One step for as many pictures as it takes to save tokens, first those of which most is shown, oldest first.

        Args:
            excess: The tokens; where they are infinite, a step need not save any.
            current: Whether the pictures are those of the current turn, else of those before.
        """
        pictures = [one for one in self.shown.pictures(current=current) if not one[2].pinned]
        pictures.sort(key=lambda one: LEVELS.index(one[2].level))  # within a level their order stays
        steps: list[Step] = []
        for number, block, state in pictures:
            if excess <= 0:
                break
            step = await self._step(number, block, state, anyway=math.isinf(excess))
            if step is not None:
                steps.append(step)
                excess -= step.saves
        return steps

    async def reducible(self) -> int:
        """The tokens of all pictures of earlier turns that do not have to stay, as they are shown now."""
        sizes = [
            await self._size(block, state) for _, block, state in self.shown.pictures(current=False) if not state.pinned
        ]
        return sum(sizes)

    async def text_in(self, block: MediaBlock) -> str:
        """The text in a picture, read once."""
        if block["file_id"] not in self.texts:
            self.texts[block["file_id"]] = await asyncio.to_thread(text_in, block, self.budget.blobs)
        return self.texts[block["file_id"]]

    async def _step(self, number: int, block: MediaBlock, state: PictureState, *, anyway: bool) -> Step | None:
        size = await self._size(block, state)
        if state.level == "full":
            saves = size - await self.budget.picture(smaller_block(block, block["file_id"]))
            if saves > 0 and saves >= SMALLER_SAVES * size:
                note = await asyncio.to_thread(store_smaller, block, self.budget.blobs)
                return Step(number, block, "smaller", note, saves)
        if state.level in ("full", "smaller"):
            note = self.shown.caption(block, await self.text_in(block))
            if (saves := size - await self.budget.words(note)) > 0 or anyway:
                return Step(number, block, "caption", note, saves)
        if state.level != "reference":
            note = self.shown.reference(block)
            if (saves := size - await self.budget.words(note)) > 0 or anyway:
                return Step(number, block, "reference", note, saves)
        return None

    async def _size(self, block: MediaBlock, state: PictureState) -> int:
        """How many tokens stand in the place of a picture."""
        if state.level in ("full", "smaller"):
            return await self.budget.picture(smaller_block(block, state.note) if state.level == "smaller" else block)
        return await self.budget.words(state.note)


def store_smaller(block: MediaBlock, blobs: BlobStore) -> str:
    """Store a picture with half the side, and return its file id. Decodes it, so call it in a thread.

    Raises:
        MediaError, NotFound, StoreError: The picture cannot be had, or the smaller one not be stored.
    """
    from PIL.Image import Resampling

    picture = blobs.open_image(block["file_id"])
    half = picture.resize((max(1, round(picture.width / 2)), max(1, round(picture.height / 2))), Resampling.LANCZOS)
    file, mime_type = BytesIO(), smaller_block(block, "").get("mime_type", "")
    options: dict[str, Any] = {"quality": JPEG_QUALITY} if mime_type == "image/jpeg" else {}
    half.save(file, mime_type.removeprefix("image/").upper(), **options)
    return blobs.put(file.getvalue(), mime_type)


def text_in(block: MediaBlock, blobs: BlobStore) -> str:
    """The text in a picture, on one line and cut; empty where there is none or it cannot be read. Takes a second."""
    try:
        from mmagent.media.ocr import recognise, rows_of

        rows = rows_of(recognise(blobs.open_image(block["file_id"])))
    except Exception:  # no OCR on this machine, a file that is gone: a caption without text is one all the same
        return ""
    line = " | ".join(" ".join(piece["text"] for piece in row) for row in rows)
    return line if len(line) <= CAPTION_CHARS else line[: CAPTION_CHARS - 1] + "…"
