"""One user of a folder at a time, across processes and within one. It knows nothing of what is in the folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

from mmagent.errors import StoreLocked

_PATIENCE = 1.0
"""Seconds to wait for the holder, which may be just about to close."""


class FolderLock:
    """Holds ``LOCK`` in a folder until it is released or the process ends, however it ends.

    Raises:
        StoreLocked: Another holder kept it for a second; the message names its process.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[str] = (folder / "LOCK").open("a+", encoding="ascii", errors="replace")
        until = time.monotonic() + _PATIENCE
        while not self._acquired():
            if time.monotonic() > until:
                self._file.seek(0)
                holder = self._file.read(20).strip() or "unknown"
                self._file.close()
                whose = "this process" if holder == str(os.getpid()) else f"another process (pid {holder})"
                raise StoreLocked(f"the knowledge store in {folder} is in use by {whose}; close it there and try again")
            time.sleep(0.02)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def _acquired(self) -> bool:
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except BaseException:
            self._file.close()
            raise
        return True

    def release(self) -> None:
        """Lets the next one in, even where a forked child still has the file open."""
        import fcntl

        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()
