from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract, Heading, Mark, Picture
from mmagent.knowledge.read import Options, frames, pool, read
from mmagent.knowledge.read.pool import ReaderPool
from mmagent.settings import Settings

OPTIONS = Options.of(Settings())
HEAVY = {"torch", "transformers", "langchain_core", "chromadb", "numpy", "PIL", "av", "onnxruntime", "docx", "lxml"}


def wait_until(true: Callable[[], bool]) -> None:
    """For what another process does; it has no event to wait for here."""
    limit = time.monotonic() + 20
    while not true():
        assert time.monotonic() < limit
        threading.Event().wait(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def behaving(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has workers run a piece of code for documents that begin with the name of it, as a parser could."""

    def install(code: str) -> None:
        started = (
            "import sys; sys.path.append(sys.argv[1])\n"
            "from mmagent.knowledge.read import text, worker\n"
            "real = text.read_text\n"
            "def read_text(data, name, options):\n"
            "    if data.startswith(b'bad'):\n"
            f"        {code}\n"
            "    return real(data, name, options)\n"
            "text.read_text = read_text\n"
            "worker.main(int(sys.argv[2]), float(sys.argv[3]))\n"
        )
        monkeypatch.setattr(pool, "_START", started)

    return install


@pytest.fixture
def readers() -> Iterator[ReaderPool]:
    with ReaderPool(1, timeout=60) as one:
        yield one


def pids(readers: ReaderPool) -> list[int]:
    return [child._process.pid for child in readers._children]


def test_a_document_reads_as_in_this_process(readers: ReaderPool) -> None:
    page = b"<title>T</title><h1>One</h1><p>x</p><h2>Two</h2><p>\xc3\xa9"
    assert readers.submit(page, "a.html", OPTIONS).result(60) == read(page, "a.html", OPTIONS)
    subtitles = b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n"
    first = pids(readers)
    assert readers.submit(subtitles, "a.vtt", OPTIONS).result(60) == read(subtitles, "a.vtt", OPTIONS)
    assert pids(readers) == first != []  # the same one


def test_a_refusal_keeps_its_words_and_its_worker(readers: ReaderPool) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match=r"^it is not UTF-8 text; save it as UTF-8$"):
            readers.submit(b"\xff", "a.txt", OPTIONS).result(60)
    assert len(pids(readers)) == 1


def test_a_surprise_is_named_and_its_details_are_logged(
    behaving: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    behaving("raise ValueError('raw words of a decoder')")
    with ReaderPool(1, 60) as readers, caplog.at_level(logging.DEBUG, "mmagent"):
        caught = readers.submit(b"bad", "a.txt", OPTIONS).exception(60)
    assert isinstance(caught, InputError)
    assert str(caught) == "it could not be read (ValueError); save it again or take another one"
    assert "raw words of a decoder" in caplog.text


@pytest.mark.parametrize(
    "crash",
    ["__import__('os').abort()", "__import__('os')._exit(0)", "sys.stdout = None; __import__('ctypes').string_at(0)"],
)
def test_a_crash_costs_one_document(behaving: Callable[[str], None], crash: str) -> None:
    behaving(crash)
    with ReaderPool(1, 60) as readers:
        futures = [readers.submit(data, "a.txt", OPTIONS) for data in (b"good", b"bad", b"good again")]
        assert futures[0].result(60).text == "good"
        with pytest.raises(InputError, match="its reader crashed; save it again or take another one"):
            futures[1].result(60)
        assert futures[2].result(60).text == "good again"


_FAILS_IF_WEAK = """
    if getattr(worker, "weak", False) and not data.startswith(b"bad"):
        __import__("os").abort()
"""


def test_a_worker_that_one_document_left_weak_does_not_cost_the_next_one(
    behaving: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behaving("worker.weak = True")
    monkeypatch.setattr(pool, "_START", pool._START.replace("    return real", _FAILS_IF_WEAK + "    return real"))
    with ReaderPool(1, 60) as readers:
        assert readers.submit(b"bad", "a.txt", OPTIONS).result(60).text == "bad"
        assert readers.submit(b"good", "a.txt", OPTIONS).result(60).text == "good"


@pytest.mark.parametrize("hang", ["__import__('threading').Event().wait()", "while True: pass"])
def test_a_hang_ends_at_the_limit(behaving: Callable[[str], None], hang: str) -> None:
    behaving(hang)
    with ReaderPool(1, timeout=3) as readers:
        future = readers.submit(b"bad", "a.txt", OPTIONS)
        with pytest.raises(InputError, match="reading it took longer than 3 s; MMAGENT_INDEX_TIMEOUT changes it"):
            future.result(60)
        assert pids(readers) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to RLIMIT_AS")
def test_memory_is_limited(behaving: Callable[[str], None]) -> None:
    behaving("text.held = [bytearray(1 << 24) for _ in range(200)]")
    with ReaderPool(1, 60, memory=1 << 30) as readers:
        with pytest.raises(InputError, match="reading it takes too much memory; split it"):
            readers.submit(b"bad", "a.txt", OPTIONS).result(60)
        wait_until(lambda: pids(readers) == [])  # it is not used again
        assert readers.submit(b"good", "a.txt", OPTIONS).result(60).text == "good"


def test_what_a_library_prints_does_no_harm(behaving: Callable[[str], None]) -> None:
    behaving("print('x' * 100_000); __import__('os').write(1, b'noise'); sys.stdin.read()")
    with ReaderPool(1, 60) as readers:
        assert readers.submit(b"bad", "a.txt", OPTIONS).result(60).text == "bad"


def test_workers_get_no_secrets(behaving: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    behaving("return real(repr(dict(__import__('os').environ)).encode(), name, options)")
    with ReaderPool(1, 60) as readers:
        text = readers.submit(b"bad", "a.txt", OPTIONS).result(60).text
    assert "PATH" in text and "SOME_API_KEY" not in text and "secret" not in text


def test_a_worker_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nothing/there")
    with ReaderPool(1, 60) as readers, pytest.raises(InputError, match="could not be started"):
        readers.submit(b"x", "a.txt", OPTIONS).result(60)


def test_closing_ends_workers_and_what_waits(behaving: Callable[[str], None]) -> None:
    behaving("__import__('threading').Event().wait()")
    readers = ReaderPool(1, 60)
    busy, waiting = readers.submit(b"bad", "a.txt", OPTIONS), readers.submit(b"good", "a.txt", OPTIONS)
    wait_until(lambda: len(pids(readers)) == 1)
    (pid,) = pids(readers)
    readers.close()
    with pytest.raises(InputError, match="stopped"):
        busy.result(20)
    with pytest.raises(CancelledError):
        waiting.result(20)
    wait_until(lambda: not alive(pid))
    with pytest.raises(RuntimeError, match="closed"):
        readers.submit(b"x", "a.txt", OPTIONS)
    readers.close()


def test_no_more_workers_than_asked_for() -> None:
    with ReaderPool(2, 60) as readers:
        futures = [readers.submit(b"<p>%d" % n, "a.html", OPTIONS) for n in range(40)]
        assert [future.result(60).text for future in futures] == [str(n) for n in range(40)]
        assert 1 <= len(pids(readers)) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_even_while_they_are_busy(end: signal.Signals, tmp_path: Path) -> None:
    code = """
import sys
from mmagent.knowledge.read import Options, pool
from mmagent.settings import Settings
if __name__ == "__main__":
    pool._START = pool._START.replace("main(int", "from mmagent.knowledge.read import text; "
        "text.read_text = lambda *_: __import__('threading').Event().wait(); main(int")
    readers = pool.ReaderPool(1, 60)
    readers.submit(b"x", "a.txt", Options.of(Settings()))
    while not readers._children: pass
    print(*[child._process.pid for child in readers._children], flush=True)
    sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(end)
    parent.communicate()
    wait_until(lambda: not alive(child))


def test_a_program_that_forgets_to_close_ends() -> None:
    code = """
from mmagent.knowledge.read import Options
from mmagent.knowledge.read.pool import ReaderPool
from mmagent.settings import Settings
print(ReaderPool(1, 60).submit(b"<p>x", "a.html", Options.of(Settings())).result().text)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("x\n", "")


def test_starting_a_worker_is_cheap() -> None:
    code = f"import sys, mmagent.knowledge.read.worker; print(sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_pixels_come_as_png(readers: ReaderPool) -> None:
    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
    png = readers.pixels(buffer.getvalue(), "image/png", OPTIONS).result(60)
    with Image.open(BytesIO(png)) as picture:
        assert (picture.format, picture.size, picture.convert("RGB").getpixel((3, 3))) == ("PNG", (30, 20), (255, 0, 0))
    small = replace(OPTIONS, max_image_side=10)
    with pytest.raises(InputError, match="MMAGENT_MAX_IMAGE_SIDE"):
        readers.pixels(buffer.getvalue(), "image/png", small).result(60)
    with pytest.raises(InputError):
        readers.pixels(b"\x89PNG\r\n\x1a\n broken", "image/png", OPTIONS).result(60)


def test_an_extract_survives_the_pipe() -> None:
    extract = Extract(
        "é text",
        "application/pdf",
        "T",
        [Heading(0, 1, 1, "H")],
        [Mark(0, 1, page=1, box=(0.0, 0.1, 0.2, 0.3)), Mark(1, 2, t0=1.5, t1=2.0)],
        [Picture("region", page=2, box=(0.0, 0.0, 1.0, 1.0), text="c"), Picture("frame", t0=1.0, t1=2.0)],
        "speech",
        ["n"],
    )
    pipe = BytesIO()
    frames.write(pipe, *frames.packed(extract))
    pipe.seek(0)
    assert frames.unpacked(*frames.receive(pipe)) == extract
    with pytest.raises(EOFError):
        frames.receive(pipe)


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\2\0\0\0\0{x"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        frames.receive(BytesIO(data))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"mime_type": "x"},
        dict.fromkeys(["mime_type", "title", "headings", "marks", "pictures", "kind", "notes"], 3),
    ],
)
def test_what_is_no_extract_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        frames.unpacked(header, b"")
