"""The blob store keeps what it was given, whole or not at all, and opens nothing that only looks like an id."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmagent.content import Image as Picture
from mmagent.errors import LimitError, MediaError, NotFound, StoreError
from mmagent.media import BlobStore
from mmagent.settings import Settings


def photo() -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((40, 30)).save(file, "JPEG")
    return file.getvalue()


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_picture_is_stored_as_it_is_under_its_hash(tmp_path: Path) -> None:
    (tmp_path / "receipt.png").write_bytes(photo())  # the name lies, the bytes do not
    store = BlobStore(tmp_path / "blobs")
    block = store.admit(Picture(tmp_path / "receipt.png"))
    assert block == {
        "type": "image",
        "file_id": "sha256:" + hashlib.sha256(photo()).hexdigest(),
        "mime_type": "image/jpeg",
        "extras": {"width": 40, "height": 30, "name": "receipt.png"},
    }
    assert store.get(block["file_id"]) == photo()
    assert store.path(block["file_id"]).read_bytes() == photo()
    assert block["file_id"] in store
    assert store.open_image(block["file_id"]).size == (40, 30)


def test_bytes_paths_and_strings_of_one_picture_are_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "receipt.jpg"
    path.write_bytes(photo())
    store = BlobStore(tmp_path / "blobs")
    assert len({store.admit(Picture(source))["file_id"] for source in (path, str(path), photo())}) == 1
    assert len(files(store.root)) == 1


def test_a_pil_image_is_stored_as_an_upright_png(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("CMYK", (40, 30)).save(file, "JPEG", exif=exif)
    block = store.admit(Picture(Image.open(file)))
    assert block["mime_type"] == "image/png"
    assert (block["extras"]["width"], block["extras"]["height"]) == (30, 40)
    assert store.open_image(block["file_id"]).size == (30, 40)
    with pytest.raises(LimitError, match="MMAGENT_MAX_IMAGE_SIDE"):
        store.admit(Picture(Image.new("1", (9_000, 1))))


def test_limits_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="max_image_pixels is 1,000"):
        BlobStore(tmp_path).admit(Picture(photo()), Settings(max_image_pixels=1_000))
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "file_id",
    ["", "sha256:", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "a" * 64 + "\n", "a" * 64, None, 7],
)
def test_a_malformed_id_touches_no_path(tmp_path: Path, file_id: str) -> None:
    store = BlobStore(tmp_path)
    assert file_id not in store
    for access in (store.get, store.path, store.open_image):
        with pytest.raises(MediaError, match="is no file id") as caught:
            access(file_id)
        assert "\n" not in str(caught.value)


@given(st.text())
def test_no_text_becomes_a_path_outside_the_store(text: str) -> None:
    with pytest.raises(MediaError):
        BlobStore(Path("blobs")).path("sha256:" + text)


def test_an_unknown_id_is_not_found(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert "sha256:" + "0" * 64 not in store
    with pytest.raises(NotFound, match="give the file again"):
        store.get("sha256:" + "0" * 64)


def test_a_damaged_blob_is_found_out_and_replaced(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    file_id = store.put(b"a receipt", "image/png")
    store.path(file_id).write_bytes(b"a recei")
    with pytest.raises(StoreError, match="is damaged"):
        store.get(file_id)
    assert store.put(b"a receipt", "image/png") == file_id
    assert store.get(file_id) == b"a receipt"


def test_a_crash_before_the_rename_leaves_no_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path)
    file_id = "sha256:" + hashlib.sha256(b"a receipt").hexdigest()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, step, crash)
            store.put(b"a receipt", "image/png")
        assert file_id not in store and files(tmp_path) == []
    assert store.get(store.put(b"a receipt", "image/png")) == b"a receipt"


def test_content_is_flushed_to_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[object] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (steps.append(os.fstat(number).st_ino), fsync(number))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), replace(*paths))[1])
    store = BlobStore(tmp_path / "new" / "blobs")
    file = store.path(store.put(b"a receipt", "image/png"))
    new_folders = [file.parent, store.root, store.root.parent]  # their names stand in the folders above them
    places = [place.stat().st_ino for place in (file, *new_folders, tmp_path)]
    assert steps == [places[0], "replace", *places[1:]]
    steps.clear()
    file.unlink()
    store.put(b"a receipt", "image/png")
    assert steps == [file.stat().st_ino, "replace", file.parent.stat().st_ino]


def test_what_is_swept_while_it_is_put_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path)
    file_id = store.put(b"a receipt", "image/png")
    os.utime(store.path(file_id), (1, 1))
    utime = os.utime

    def swept_first(*arguments: Any) -> None:
        assert store.sweep(lambda _: False, before=2) == (1, 9)
        utime(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", swept_first)
        assert store.put(b"a receipt", "image/png") == file_id
    assert store.get(file_id) == b"a receipt"


@pytest.mark.parametrize("after", [False, True])
def test_what_is_put_while_it_is_swept_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    store = BlobStore(tmp_path)
    file_id = store.put(b"a receipt", "image/png")
    os.utime(store.path(file_id), (1, 1))

    def meanwhile(owner: Any, name: str) -> None:
        work = getattr(owner, name)

        def do(*arguments: Any, **named: Any) -> None:
            patch.undo()
            if after:
                work(*arguments, **named)
            store.put(b"a receipt", "image/png")
            if not after:
                work(*arguments, **named)

        patch.setattr(owner, name, do)

    with monkeypatch.context() as patch:  # between the look at its age and whatever takes it away
        meanwhile(os, "replace")
        meanwhile(Path, "unlink")
        store.sweep(lambda _: False, before=2)
    assert store.get(file_id) == b"a receipt"
    assert len(files(tmp_path)) == 1


def test_a_disk_that_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"cannot be stored in .*; free some space or set MMAGENT_DATA_DIR"):
        BlobStore(tmp_path / "blobs").put(b"a receipt", "image/png")


def test_many_writers_of_one_picture_agree(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: BlobStore(tmp_path).put(data, "image/png"), range(32)))
    assert len(ids) == 1 and len(files(tmp_path)) == 1
    assert BlobStore(tmp_path).get(ids.pop()) == data
