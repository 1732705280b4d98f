"""One holder of a folder at a time, across processes and within one. It knows nothing of what is in the folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

from mmagent.errors import StoreLocked


class FolderLock:
    """Holds a file in a folder until it is released or the process ends, however it ends.

    Args:
        folder: The folder.
        patience: Seconds to wait for the holder.
        name: The file.

    Raises:
        StoreLocked: Another holder kept it; the message names its process.
    """

    def __init__(self, folder: Path, *, patience: float = 1.0, name: str = "LOCK") -> None:
        self._file: IO[str] = (folder / name).open("a+", encoding="ascii", errors="replace")
        until = time.monotonic() + patience
        while not self._acquired():
            if time.monotonic() >= until:
                self._file.seek(0)
                holder = self._file.read(20).strip() or "unknown"
                self._file.close()
                whose = "this process" if holder == str(os.getpid()) else f"another process (pid {holder})"
                raise StoreLocked(
                    f"the knowledge store in {folder} is being written to by {whose}; wait for it or end it"
                )
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
