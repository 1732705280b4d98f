"""Housekeeping over all sessions of a journal: media that no session needs any more. It knows no model and no agent."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from datetime import timedelta

from mmagent.media import BlobStore
from mmagent.session.journal import Journal

DAY = timedelta(days=1)


def collect_garbage(
    journals: Journal | Iterable[Journal],
    blobs: BlobStore,
    *,
    age: timedelta = DAY,
    among: Collection[str] | None = None,
) -> tuple[int, int]:
    """Remove the media that no session refers to.

    Args:
        journals: All whose sessions keep their media there; the media of one that is left out are lost.
        blobs: Where the media are.
        age: What was stored in this time stays: a turn may be about to refer to it.
        among: Only these, by their ids; None: all.

    Returns:
        How many files are gone, and how many bytes they had.

    Raises:
        StoreError: A journal cannot be read, and nothing is gone; or a file cannot be removed.
    """
    before = time.time() - age.total_seconds()
    every = [journals] if hasattr(journals, "media") else list(journals)
    needed = frozenset[str]().union(*(journal.media() for journal in every))
    return blobs.sweep(lambda file_id: file_id in needed or (among is not None and file_id not in among), before)
