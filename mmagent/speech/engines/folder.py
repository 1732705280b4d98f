"""What lies in the folder of a speech model, and what its loading and running may say. It knows files, no networks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmagent.errors import ConfigurationError, MMAgentError, ModelError

_MIB = 1024 * 1024


def check_files(folder: Path, needed: Sequence[str], what: str) -> None:
    """Refuse a folder in which something lacks, before anything is loaded.

    Args:
        folder: The folder.
        needed: Names of files; alternatives with ``|`` between them.
        what: A model that has them all.

    Raises:
        ConfigurationError: The message names all that lacks.
    """
    missing = [
        names.replace("|", " or ")
        for names in needed
        if not any((folder / name).is_file() for name in names.split("|"))
    ]
    if missing:
        raise ConfigurationError(
            f"{folder} has no {', no '.join(missing)}; copy what lacks from where the model came from: "
            f"a folder with {what} is needed"
        )


def fingerprint(name: str, files: Sequence[Path], *how: str) -> str:
    """Of an engine, the files of a model (of large ones their ends and sizes), and how it runs."""
    digest = hashlib.sha256(" ".join((name, *how)).encode())
    for path in sorted(files):
        digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(_ends(path))
    return f"{name}-{digest.hexdigest()[:16]}"


@contextmanager
def loading(what: Path) -> Iterator[None]:
    """Say which model cannot be loaded.

    Raises:
        ModelError: Whatever the library raised.
    """
    try:
        yield
    except MMAgentError:
        raise
    except Exception as error:  # libraries raise anything on files that do not fit
        raise ModelError(
            f"the speech model {what} cannot be loaded ({type(error).__name__}): its files are damaged or do not "
            "belong together; copy or convert the model again"
        ) from error


@contextmanager
def running(what: Path) -> Iterator[None]:
    """Say which model cannot go on.

    Raises:
        ModelError: Whatever the library raised.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        words = str(error).lower()
        if "out of memory" in words or "can't allocate" in words or isinstance(error, MemoryError):
            advice = "there is not enough memory; close other programs, or choose device=cpu or a smaller model"
        elif "libcu" in words or "cuda" in words:
            advice = "the GPU or its libraries cannot be used; choose device=cpu"
        else:
            advice = "its configuration and weights may not belong together; copy or convert the model again"
        raise ModelError(f"the speech model {what} failed ({type(error).__name__}): {advice}") from error


def _ends(path: Path) -> bytes:
    """A file, or the first and last MiB of a large one."""
    with path.open("rb") as file:
        start = file.read(_MIB)
        file.seek(max(len(start), path.stat().st_size - _MIB))
        return start + file.read(_MIB)
