"""The command line. It shows what the floors below do and decides nothing for them."""

from __future__ import annotations

__all__: list[str] = []
