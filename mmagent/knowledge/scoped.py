"""A store as one tenant sees it. It knows `Knowledge` and nothing beneath it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError
from mmagent.knowledge.cite import Hit, quote_for
from mmagent.knowledge.query import Asked

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from mmagent.knowledge.store import Knowledge


class Scoped:
    """A store as one tenant sees it, held to a filter. Nothing else can be reached through it."""

    def __init__(self, knowledge: Knowledge, tenant: str, where: Mapping[str, Any] | None) -> None:
        self._knowledge, self._tenant, self._where = knowledge, tenant, where

    def search(
        self, query: Asked | Sequence[Asked], k: int = 3, *, where: Mapping[str, Any] | None = None, **choices: Any
    ) -> list[Hit]:
        """As `Knowledge.search`; ``where`` can only narrow what is found."""
        filters = [one for one in (self._where, where) if one]
        both = {"$and": filters} if len(filters) > 1 else filters[0] if filters else None
        return self._knowledge.search(query, k, tenant=self._tenant, where=both, **choices)

    def quote(self, hit: Hit, claim: str) -> str:
        """As `Knowledge.quote`."""
        return quote_for(hit.text, claim)

    def picture(self, hit: Hit, *, box: bool = True, crop: bool = False) -> PILImage:
        """As `Knowledge.picture`."""
        self._check(hit)
        return self._knowledge.picture(hit, box=box, crop=crop)

    def sound(self, hit: Hit) -> bytes:
        """As `Knowledge.sound`."""
        self._check(hit)
        return self._knowledge.sound(hit)

    def _check(self, hit: Hit) -> None:
        if not self._knowledge.finds(hit, tenant=self._tenant, where=self._where):
            raise InputError(f"{hit.uri} is not in the store; search again")
