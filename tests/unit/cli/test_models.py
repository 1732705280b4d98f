"""Downloading, listing and removing models, against a real server that speaks the hub's protocol and breaks it."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

UNWANTED = {"pytorch_model.bin", "modeling_tiny.py", "weights.pkl", "pytorch_model.bin.index.json", "onnx/model.json"}
HOLD = 150_000
"""Bytes of the weights that come before the server waits; they are some 240,000."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(hub: Any, tmp_path: Path) -> dict[str, str]:
    """A machine with an empty cache whose hub is the test's."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    return kept | {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DOWNLOAD_TIMEOUT": "5"}


@pytest.fixture
def mmagent(environment: dict[str, str]) -> Run:
    """Run a command in a process of its own."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mmagent", *arguments],
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def pulling(hub: Any, environment: dict[str, str]) -> Callable[[], subprocess.Popen[str]]:
    """Begin a download and return when the server has sent ``HOLD`` bytes of the weights and waits."""

    def begin() -> subprocess.Popen[str]:
        hub.hold = HOLD
        process = subprocess.Popen(
            [sys.executable, "-m", "mmagent", "pull", "org/tiny"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert hub.held.wait(30)
        return process

    return begin


def cache(environment: dict[str, str]) -> Path:
    return Path(environment["HF_HOME"]) / "hub" / "models--org--tiny"


def partial(environment: dict[str, str]) -> int:
    """Bytes of the weights that are here."""
    (file,) = cache(environment).glob("blobs/*.incomplete")
    return file.stat().st_size


def wait_for_bytes(environment: dict[str, str]) -> None:
    """Until the process has written what it was sent."""
    until = time.monotonic() + 30
    while not any(file.stat().st_size >= HOLD // 2 for file in cache(environment).glob("blobs/*.incomplete")):
        assert time.monotonic() < until


def ranges(hub: Any) -> list[str | None]:
    return [wanted for name, wanted in hub.requests if name == "model.safetensors"]


def error(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_a_model_is_pulled_listed_loaded_and_removed(hub: Any, mmagent: Run, environment: dict[str, str]) -> None:
    done = mmagent("pull", "org/tiny", MMAGENT_OFFLINE="true")  # who types pull wants the network
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"org/tiny: {len(hub.files) - len(UNWANTED)} files, ")
    assert done.stdout.startswith("org/tiny is here, needs 1.1 GB of memory, which ")
    assert {name for name, _ in hub.requests} == set(hub.files) - UNWANTED
    (snapshot,) = cache(environment).glob("snapshots/*")
    for file in snapshot.iterdir():
        assert file.read_bytes() == hub.files[file.name]

    rows = [line.split("\t") for line in mmagent("models").stdout.splitlines()]
    assert [row[0] for row in rows] == ["nano", "org/tiny"]
    assert rows[1][3:5] == ["text,image", "4096"]

    loads = "from mmagent.engine.load import load; print(load('org/tiny', 'cpu').context_length)"
    loaded = subprocess.run([sys.executable, "-c", loads], env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout == "4096\n"

    kept = mmagent("models", "remove", "org/tiny")
    assert (kept.returncode, cache(environment).is_dir()) == (2, True)
    assert "add --yes" in error(kept)
    gone = mmagent("models", "remove", "org/tiny", "--yes")
    assert (gone.returncode, cache(environment).exists()) == (0, False)
    assert mmagent("models", "remove", "org/tiny", "--yes").returncode == 2


def test_pulling_again_fetches_nothing(hub: Any, mmagent: Run) -> None:
    assert mmagent("pull", "org/tiny").returncode == 0
    hub.requests.clear()
    assert mmagent("pull", "org/tiny").returncode == 0
    assert hub.requests == []


def test_a_broken_connection_goes_on_where_it_broke(hub: Any, mmagent: Run) -> None:
    hub.cut = HOLD
    assert mmagent("pull", "org/tiny").returncode == 0
    first, second = ranges(hub)
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=")[:-1]) > 0


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_download_goes_on(
    hub: Any, mmagent: Run, pulling: Any, environment: dict[str, str], ending: signal.Signals, code: int
) -> None:
    process = pulling()
    wait_for_bytes(environment)
    process.send_signal(ending)
    out, err = process.communicate(timeout=30)
    hub.go.set()
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    there = partial(environment)
    assert HOLD // 2 <= there <= HOLD

    (row,) = [row for row in json.loads(mmagent("models", "--json").stdout) if row["name"] == "org/tiny"]
    assert (row["fit"], row["problem"]) == (
        "unusable",
        "its download was interrupted; go on with: mmagent pull org/tiny",
    )
    again = mmagent("pull", "org/tiny")
    assert again.returncode == 0, again.stderr
    assert "of it here already" in again.stderr
    assert ranges(hub) == [None, f"bytes={there}-"]
    assert not list(cache(environment).glob("blobs/*.incomplete"))


def test_a_server_that_knows_no_ranges_sends_it_all_again(
    hub: Any, mmagent: Run, pulling: Any, environment: dict[str, str]
) -> None:
    process = pulling()
    wait_for_bytes(environment)
    process.kill()
    process.communicate()
    hub.go.set()
    hub.ranges = False
    assert mmagent("pull", "org/tiny").returncode == 0
    assert len(ranges(hub)) == 2


def test_two_processes_do_not_write_the_same_file(hub: Any, mmagent: Run, pulling: Any) -> None:
    process = pulling()
    second = mmagent("pull", "org/tiny")
    assert second.returncode == 1
    assert "another process is downloading org/tiny" in error(second)
    hub.go.set()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_damaged_bytes_are_not_kept(hub: Any, mmagent: Run, environment: dict[str, str]) -> None:
    hub.spoil = True
    done = mmagent("pull", "org/tiny")
    assert done.returncode == 1
    assert "model.safetensors of org/tiny came damaged" in error(done)
    assert not (cache(environment) / "refs").exists()
    hub.spoil = False
    assert mmagent("pull", "org/tiny").returncode == 0


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "message"),
    [
        (403, "GatedRepo", 2, "org/tiny is gated: accept its terms at http.*set HF_TOKEN"),
        (401, "RepoNotFound", 2, "the hub has no model org/tiny, or it is private"),
        (404, "RepoNotFound", 2, "the hub has no model org/tiny, or it is private"),
        (403, "", 2, "refuses the token"),
        (500, "", 1, "the hub answered 500 for org/tiny; try again later"),
    ],
)
def test_refusals_say_what_to_do(hub: Any, mmagent: Run, status: int, code: str, exit_code: int, message: str) -> None:
    hub.refuses = status, code
    done = mmagent("pull", "org/tiny")
    assert done.returncode == exit_code
    assert re.search(message, error(done))


def test_no_network_and_no_name_say_what_to_do(mmagent: Run) -> None:
    done = mmagent("pull", "org/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "http://127.0.0.1:9 cannot be reached; check the network" in error(done)
    done = mmagent("pull", "org/tiny", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "unset it" in error(done)
    for name in ("tiny", "../../etc/passwd", "org/../tiny", "a/b/c"):
        done = mmagent("pull", name)
        assert done.returncode == 2
        assert "give ORG/NAME" in error(done)


def test_what_the_hub_says_is_not_believed(hub: Any, mmagent: Run, environment: dict[str, str]) -> None:
    listing = hub.info()
    for field, value in (("blobId", "../../../../evil"), ("size", -1), ("size", None)):
        hub.listing = json.loads(json.dumps(listing))
        for sibling in hub.listing["siblings"]:
            if sibling["rfilename"] == "config.json":
                sibling[field] = value
        assert "no size or hash for config.json" in error(mmagent("pull", "org/tiny"))
    hub.listing = listing | {"sha": "../../evil"}
    assert mmagent("pull", "org/tiny").returncode == 1
    hub.listing = listing | {"siblings": [s for s in listing["siblings"] if "safetensors" not in s["rfilename"]]}
    assert "is no model in safetensors" in error(mmagent("pull", "org/tiny"))

    hub.listing = json.loads(json.dumps(listing))
    for sibling in hub.listing["siblings"]:
        if "lfs" in sibling:
            sibling["size"] = HOLD
    assert "sends more of model.safetensors than" in error(mmagent("pull", "org/tiny"))
    home = Path(environment["HF_HOME"])
    assert {path.name for path in home.parent.iterdir()} == {"hf"}
    assert not (cache(environment) / "refs").exists()


def test_a_disk_that_is_too_small_is_said_first(hub: Any, mmagent: Run) -> None:
    hub.listing = hub.info()
    for sibling in hub.listing["siblings"]:
        if "lfs" in sibling:
            sibling["size"] = 10**17
    done = mmagent("pull", "org/tiny")
    assert done.returncode == 1
    assert "needs 100000000.0 GB more" in error(done)
    assert hub.requests == []


def test_listing_needs_no_torch_and_survives_what_it_finds(environment: dict[str, str], tmp_path: Path) -> None:
    hub_cache = cache(environment).parent
    for name in ("models--org--empty", "models--evil\x1b[31m--x", "models--org--x--y", "datasets--a--b"):
        (hub_cache / name / "snapshots" / "0").mkdir(parents=True)
    (hub_cache / "models--org--x--y" / "snapshots" / "0" / "config.json").write_text("[" * 100_000)
    own = Path(environment["MMAGENT_DATA_DIR"]) / "models" / "mine"
    own.mkdir(parents=True)
    (own / "config.json").write_text('{"vocab_size": 1}')
    (own / "pytorch_model.bin").write_bytes(b"x")
    code = (
        "import sys\nfrom mmagent.cli.main import main\n"
        "try: main(['models', '--json'])\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"nano", "org/empty", "org/x--y", str(own)}
    assert "no config.json" in rows["org/empty"]["problem"]
    assert "no JSON" in rows["org/x--y"]["problem"]
    assert "pickle" in rows[str(own)]["problem"]
    assert rows["nano"]["fit"] in ("fits", "tight")


def test_a_terminal_gets_a_table_and_a_question(hub: Any, mmagent: Run, environment: dict[str, str]) -> None:
    assert mmagent("pull", "org/tiny").returncode == 0
    table = on_terminal(environment | {"COLUMNS": "120"}, "models")
    assert "parameters" in table
    assert "org/tiny" in table
    assert "of memory are free" in table
    assert "org/tiny is kept" in on_terminal(environment, "models", "remove", "org/tiny", typed=b"n\n")
    assert "is deleted" in on_terminal(environment, "models", "remove", "org/tiny", typed=b"y\n")
    assert not cache(environment).exists()


def on_terminal(environment: dict[str, str], *arguments: str, typed: bytes = b"") -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mmagent", *arguments], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, typed)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    process.wait(timeout=30)
    os.close(ours)
    return shown.decode()


def test_a_cache_of_an_older_version_stays_in_use_until_the_new_one_is_whole(
    hub: Any, mmagent: Run, environment: dict[str, str]
) -> None:
    assert mmagent("pull", "org/tiny").returncode == 0
    ref = cache(environment) / "refs" / "main"
    old = "0" * 40
    shutil.move(cache(environment) / "snapshots" / ref.read_text(), cache(environment) / "snapshots" / old)
    ref.write_text(old)
    hub.files["model.safetensors"] = hub.files["model.safetensors"][:-4] + b"abcd"
    hub.spoil = True
    assert mmagent("pull", "org/tiny").returncode == 1
    assert ref.read_text() == old
    hub.spoil = False
    assert mmagent("pull", "org/tiny").returncode == 0
    assert ref.read_text() != old
