"""Models of the Hugging Face hub: which are on this machine, and how one gets here. It knows files, no networks.

Downloads land in the hub's own cache, so other programs share them. huggingface_hub starts a file over when it was
interrupted and never checks what came; so the bytes are fetched here (resumed, hashed), and it links them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmagent.errors import ConfigurationError, ModelError, NotFound, StoreLocked

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
WANTED = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors|(?!.*\.(bin|msgpack|h5|onnx)\.)\w[\w.-]*\.json|\w[\w.-]*\.(jinja|model|spm)"
    r"|(merges|vocab)\.txt"
)
"""Files that are downloaded: safetensors, and what configures them. No pickles, no Python, no folders."""
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHUNK = 1 << 16
_ATTEMPTS = 5
"""Connections in a row that may break before a byte has come."""

Progress = Callable[[int], None]
"""Called with the bytes that have come since the last call; negative where they have to come again."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model on the hub."""

    name: str
    size: int
    hash: str
    """Hexadecimal: sha256 of large files, git's sha1 of the others."""


@dataclass(frozen=True)
class Plan:
    """What a download will bring."""

    hub_id: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def here(self) -> int:
        """Bytes of them that are on this machine already, from an earlier try or version."""
        return sum(_size(self.blob(file)) or _size(_partial(self.blob(file))) for file in self.files)

    def blob(self, file: RemoteFile) -> Path:
        """Where the hub's cache keeps the bytes of a file."""
        return cache_folder(self.hub_id) / "blobs" / file.hash


def cache_folder(hub_id: str) -> Path:
    """The folder of a model in the hub's cache, be it there or not.

    Raises:
        NotFound: That is no hub id.
    """
    from huggingface_hub import constants

    if not HUB_ID.fullmatch(hub_id):
        raise NotFound(f"{hub_id!r:.100} is no model of the hub; give ORG/NAME")
    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{hub_id.replace('/', '--')}"


def cached(hub_id: str) -> Path | None:
    """The folder with the files of a downloaded model, complete or not; None where nothing is."""
    folder = cache_folder(hub_id)
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if _HASH.fullmatch(commit) and (snapshot / "config.json").is_file() else None


def plan(hub_id: str) -> Plan:
    """Ask the hub what a model consists of.

    Raises:
        NotFound: The hub has no such model, or shows it to others only.
        ConfigurationError: Terms have to be accepted, a token is wrong, or ``HF_HUB_OFFLINE`` is set.
        ModelError: The hub cannot be reached, or the model has no safetensors.
    """
    from huggingface_hub import HfApi

    cache_folder(hub_id)
    with _explained(hub_id):
        info = HfApi(library_name="mmagent").model_info(hub_id, files_metadata=True)
    files = tuple(_remote_file(each, hub_id) for each in info.siblings or () if WANTED.fullmatch(each.rfilename))
    if not any(file.name.endswith(".safetensors") for file in files) or all(f.name != "config.json" for f in files):
        raise ModelError(
            f"{hub_id} is no model in safetensors with a config.json, so it cannot be used; choose another"
        )
    if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
        raise ModelError(f"the hub gives {hub_id} no version; try again later")
    return Plan(hub_id, str(info.sha), files)


def download(plan: Plan, progress: Progress = lambda count: None) -> Path:
    """Bring a model here; what an earlier try has brought is not fetched again.

    Returns:
        The folder with its files. Until all are there and have their hashes, an older version stays in use.

    Raises:
        StoreLocked: Another process is downloading the same model.
        ModelError: The disk is full, the connection broke for good, or a file is not what the hub says.
    """
    from huggingface_hub import hf_hub_download

    folder = cache_folder(plan.hub_id)
    with _explained(plan.hub_id), _alone(plan.hub_id):
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        _check_disk(plan, folder)
        for file in plan.files:
            if not plan.blob(file).exists():
                _fetch(plan, file, progress)
        for file in plan.files:
            hf_hub_download(plan.hub_id, file.name, revision=plan.commit, library_name="mmagent")
        # the version becomes the one in use last, when all of it is there
        return Path(hf_hub_download(plan.hub_id, "config.json", library_name="mmagent")).parent


def remove(hub_id: str) -> int:
    """Delete a downloaded model, all versions of it and half of them.

    Returns:
        Bytes that are free again.

    Raises:
        NotFound: It is not on this machine.
        StoreLocked: It is being downloaded.
    """
    folder = cache_folder(hub_id)
    if not folder.is_dir():
        raise NotFound(f"the model {hub_id} is not on this machine; mmagent models lists those that are")
    with _alone(hub_id):
        size = disk_size(folder)
        shutil.rmtree(folder)
    return size


def disk_size(folder: Path) -> int:
    """Bytes of the files in a folder and below, each counted once."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _remote_file(sibling: Any, hub_id: str) -> RemoteFile:
    size, code = sibling.size, sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    if not isinstance(size, int) or size < 0 or not isinstance(code, str) or not _HASH.fullmatch(code):
        raise ModelError(f"the hub gives no size or hash for {sibling.rfilename} of {hub_id}; try again later")
    return RemoteFile(sibling.rfilename, size, code)


def _check_disk(plan: Plan, folder: Path) -> None:
    missing, free = plan.size - plan.here, shutil.disk_usage(folder).free
    if missing > free:
        raise ModelError(
            f"{plan.hub_id} needs {missing / 1e9:.1f} GB more, {folder.parent} has {free / 1e9:.1f} GB free; "
            "free some, or set HF_HOME to a folder on a larger disk"
        )


def _fetch(plan: Plan, file: RemoteFile, progress: Progress) -> None:
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    partial, idle = _partial(plan.blob(file)), 0
    while not partial.exists() or _size(partial) < file.size:
        before, failure = _size(partial), None
        try:
            _receive(plan, file, partial, progress)
        except HfHubHTTPError:
            raise
        except HTTPError as error:  # the connection broke; what came is kept
            failure = error
        idle = 0 if _size(partial) > before else idle + 1
        if idle == _ATTEMPTS:
            raise _unreachable(plan.hub_id) from failure
        time.sleep(idle)
    if _hash(partial, file) != file.hash:
        partial.unlink()
        progress(-file.size)
        raise ModelError(f"{file.name} of {plan.hub_id} came damaged and was deleted; download it again")
    os.replace(partial, plan.blob(file))


def _receive(plan: Plan, file: RemoteFile, partial: Path, progress: Progress) -> None:
    """Append what a server sends to the part that is here."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    start = _size(partial)
    headers = {**build_hf_headers(library_name="mmagent"), "Accept-Encoding": "identity", "Range": f"bytes={start}-"}
    if not start:
        del headers["Range"]  # an empty file has no range
    url = hf_hub_url(plan.hub_id, file.name, revision=plan.commit)
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=30) as response:
        hf_raise_for_status(response)
        resumes = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and not resumes:
            progress(-start)
        with partial.open("ab" if resumes else "wb") as stream:
            for chunk in response.iter_bytes(_CHUNK):
                stream.write(chunk)
                progress(len(chunk))
                if stream.tell() > file.size:
                    raise ModelError(
                        f"the hub sends more of {file.name} than the {file.size} bytes it has; try again later"
                    )


def _hash(path: Path, file: RemoteFile) -> str:
    """The hash as the hub makes it: sha256, or git's sha1 of a small file."""
    digest = hashlib.sha256() if len(file.hash) == 64 else hashlib.sha1(f"blob {file.size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")  # the hub's own name, so that its tools clean it up


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _alone(hub_id: str) -> Iterator[None]:
    """Keep other processes from changing the same model; the lock goes with the process."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    folder = cache_folder(hub_id)
    lock = folder.parent / ".locks" / folder.name / "mmagent.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(lock, timeout=1))
        except TimeoutError as error:
            raise StoreLocked(f"another process is downloading {hub_id}; wait until it is done") from error
        yield


@contextmanager
def _explained(hub_id: str) -> Iterator[None]:
    from huggingface_hub import constants, errors
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of httpx or httpx2

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise ConfigurationError(
            "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network; unset it to download"
        ) from error
    except errors.GatedRepoError as error:
        raise ConfigurationError(
            f"{hub_id} is gated: accept its terms at {constants.ENDPOINT}/{hub_id}, make a token at "
            f"{constants.ENDPOINT}/settings/tokens, set HF_TOKEN to it, and try again"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotFound(
            f"the hub has no model {hub_id}, or it is private; check the name, or set HF_TOKEN to one that may read it"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ConfigurationError(
                f"the hub refuses the token that it was given ({status}); set HF_TOKEN anew"
            ) from error
        raise ModelError(f"the hub answered {status} for {hub_id}; try again later, what has come is kept") from error
    except (HTTPError, errors.LocalEntryNotFoundError) as error:
        raise _unreachable(hub_id) from error
    except OSError as error:
        raise ModelError(
            f"{hub_id} cannot be written to {constants.HF_HUB_CACHE}: {error.strerror or error}; "
            "make room there, or set HF_HOME to another folder"
        ) from error


def _unreachable(hub_id: str) -> ModelError:
    from huggingface_hub import constants

    return ModelError(
        f"{hub_id} cannot be downloaded: {constants.ENDPOINT} cannot be reached; "
        "check the network and try again, what has come is kept"
    )
