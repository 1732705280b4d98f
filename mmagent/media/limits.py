"""The refusals that name a limit, the value found and the setting that changes it. It opens and decodes nothing."""

from __future__ import annotations

from mmagent.errors import LimitError
from mmagent.settings import Settings

BYTES = {
    "picture": "max_image_bytes",
    "recording": "max_audio_bytes",
    "video": "max_video_bytes",
    "document": "max_document_bytes",
    "file": "max_video_bytes",  # of whatever type: the largest that there may be
}
"""The setting that limits the size of each kind of file, by what messages call the kind."""


def max_bytes(kind: str, limits: Settings) -> int:
    """How many bytes a file of a kind may have."""
    return int(getattr(limits, BYTES[kind]))


def check_bytes(size: int, name: str, limits: Settings, kind: str = "picture") -> None:
    """Refuse a file that is larger than its kind may be.

    Raises:
        LimitError: It is larger.
    """
    if size > max_bytes(kind, limits):
        raise refusal(name, f"{size:,} bytes large", max_bytes(kind, limits), BYTES[kind], kind)


def check_seconds(seconds: float, name: str, limits: Settings, kind: str) -> None:
    """Refuse a recording or video that says that it is longer than it may be.

    Raises:
        LimitError: It is longer.
    """
    field = "max_audio_seconds" if kind == "recording" else "max_video_seconds"
    limit = int(getattr(limits, field))
    if seconds > limit:
        raise refusal(name, f"{seconds:,.0f} s long", limit, field, kind)


def check_size(width: int, height: int, name: str, limits: Settings) -> None:
    """Refuse a picture with a side of more than ``max_image_side`` or more than ``max_image_pixels`` pixels.

    Raises:
        LimitError: It is larger.
    """
    if max(width, height) > limits.max_image_side:
        raise refusal(name, f"{width:,} x {height:,} pixels, a side too long", limits.max_image_side, "max_image_side")
    if width * height > limits.max_image_pixels:
        found = f"{width:,} x {height:,} = {width * height:,} pixels"
        raise refusal(name, found, limits.max_image_pixels, "max_image_pixels")


def refusal(name: str, found: str, limit: int, field: str, kind: str = "picture") -> LimitError:
    """The error that names a limit, the value found and the setting that changes it."""
    smaller = "shorter" if field.endswith("_seconds") else "smaller"
    return LimitError(
        f"{name} is {found}: {field} is {limit:,}; make the {kind} {smaller} or set {Settings.variable(field)}"
    )
