"""The refusals that name a limit, the value found and the setting that changes it. It opens and decodes nothing."""

from __future__ import annotations

from mmagent.errors import LimitError
from mmagent.settings import Settings


def check_bytes(size: int, name: str, limits: Settings) -> None:
    """Refuse a picture file of more than ``max_image_bytes`` bytes.

    Raises:
        LimitError: It is larger.
    """
    if size > limits.max_image_bytes:
        raise refusal(name, f"{size:,} bytes large", limits.max_image_bytes, "max_image_bytes")


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


def refusal(name: str, found: str, limit: int, field: str) -> LimitError:
    """The error that names a limit, the value found and the setting that changes it."""
    return LimitError(
        f"{name} is {found}: {field} is {limit:,}; make the picture smaller or set {Settings.variable(field)}"
    )
