"""The commands for documents, end to end: real stores, the real embedder, real files."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmagent.cli.main import main
from mmagent.knowledge import Knowledge
from mmagent.knowledge.filters import KINDS

RETURNS = "# Returns\n\n## Return window\n\nYou can return an item within 30 days of the purchase.\n"
SHIPPING = "# Shipping\n\nStandard shipping costs 4.90 EUR.\n"


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def mmagent(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    (folder / "more").mkdir(parents=True)
    (folder / "returns.md").write_text(RETURNS)
    (folder / "more" / "shipping.md").write_text(SHIPPING)
    return folder


@pytest.fixture
def pdf(shared_data: Path, tmp_path: Path) -> Path:
    """A real PDF with text."""
    folder = tmp_path / "papers"
    folder.mkdir()
    source = next(
        path for path in sorted((shared_data / "docs_docling").rglob("*.pdf")) if path.name == "2305.03393v1-pg9.pdf"
    )
    (folder / "paper.pdf").write_bytes(source.read_bytes())
    return folder


# index


def test_a_folder_has_a_store_of_its_own(mmagent: Run, policies: Path) -> None:
    done = mmagent("index", policies)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "2 documents, 2 passages",
        "2 added, 0 updated, 0 removed, 0 unchanged",
        f'search them with: mmagent search "..." --knowledge {policies}',
    ]
    assert done.err == ""  # no progress bar in a pipe
    (policies / "returns.md").unlink()
    assert "0 added, 0 updated, 1 removed, 1 unchanged" in mmagent("index", policies).out
    assert mmagent("search", "shipping", "--knowledge", policies).out.startswith("[1] Shipping (more/shipping.md)\n")
    with Knowledge.of_folder(policies) as knowledge:  # the same store as in Python
        assert knowledge.report is not None
        assert (knowledge.report.added, knowledge.report.unchanged) == (0, 1)


def test_files_and_folders_go_into_a_store_that_is_named(mmagent: Run, policies: Path, tmp_path: Path) -> None:
    done = mmagent("index", policies / "returns.md", policies / "more", "--store", tmp_path / "store", "--json")
    (store,) = done.json["stores"]
    assert (store["store"], store["documents"], store["added"]) == (str(tmp_path / "store"), 2, 2)
    assert (store["skipped"], store["notes"]) == ([], [])
    found = ("search", "shipping", "costs", "--knowledge", tmp_path / "store", "-n", "1")
    assert mmagent(*found).out.startswith("[1] Shipping (shipping.md)\n    Standard shipping costs 4.90 EUR.\n")
    (hit,) = mmagent(*found, "--json").json
    assert hit["uri"] == "shipping.md"


def test_several_folders_have_a_store_each(mmagent: Run, policies: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "other.txt").write_text("Something else.")
    stores = mmagent("index", policies, tmp_path / "other", "--json").json["stores"]
    assert [store["documents"] for store in stores] == [2, 1]
    assert len({store["store"] for store in stores}) == 2


def test_what_is_left_out_is_listed_up_to_twenty(mmagent: Run, policies: Path) -> None:
    for number in range(25):
        (policies / f"{number:02}.md").write_text(" \n")
    done = mmagent("index", policies)
    assert done.code == 0
    notes = done.err.splitlines()
    assert notes[0].startswith("note: 00.md is left out: ")
    assert (len(notes), notes[-1]) == (21, "note: 5 more are left out; mmagent index --verbose lists them")
    assert len(mmagent("index", policies, "--verbose").err.splitlines()) == 25
    assert len(mmagent("index", policies, "--json").json["stores"][0]["skipped"]) == 25


def test_nothing_that_can_be_read_is_an_error(mmagent: Run, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    done = mmagent("index", tmp_path / "docs")
    assert (done.code, done.err) == (2, f"error: there are no documents in {tmp_path / 'docs'}\n")
    (tmp_path / "docs" / "a.md").write_bytes(b"\x00\x01")
    done = mmagent("index", tmp_path / "docs", "--json")
    assert done.code == 2
    assert done.json["stores"][0]["documents"] == 0
    assert "a.md" in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "there is no file or folder .*nowhere; check"),
        (["policies/returns.md"], "returns.md is a file, which has no store of its own; say where to with --store"),
        (["policies", "--meta", "lang"], "--meta lang is no KEY=VALUE"),
        (["policies", "policies/more", "--watch"], "name it with --store"),
        (["policies", "--embedder", "nonsense"], "nonsense"),
    ],
)
def test_what_cannot_be_indexed(
    mmagent: Run, policies: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(policies.parent)
    done = mmagent("index", *arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(says, line)


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name/docs"])
def test_a_name_that_no_file_can_have_is_not_there(mmagent: Run, policies: Path, name: str) -> None:
    for arguments in (
        ["index", name],
        ["index", name, "--watch"],
        ["index", name, "--store", policies / "store"],
        ["search", "--image", name, "--knowledge", policies],
        ["store", "stats", name],
    ):
        done = mmagent(*arguments)
        assert (done.code, done.out) == (2, ""), done.err
        (line,) = done.err.splitlines()
        assert line.startswith("error: there is no ") and name in line


def test_ocr_holds_for_one_command(mmagent: Run, policies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmagent.settings import settings

    seen = []
    add = Knowledge.add

    def noted(self: Knowledge, *paths: Path, **options: Any) -> Any:
        seen.append((settings().ocr, settings().index_workers))
        return add(self, *paths, **options)

    monkeypatch.setattr(Knowledge, "add", noted)
    assert mmagent("index", policies, "--no-ocr", "--workers", "1").code == 0
    assert mmagent("index", policies).code == 0
    monkeypatch.setenv("MMAGENT_OCR", "false")
    settings.cache_clear()
    assert mmagent("index", policies).code == 0
    assert mmagent("index", policies, "--ocr").code == 0
    assert seen == [(False, 1), (True, 2), (False, 2), (True, 2)]


# search


def test_metadata_tenants_and_kinds_are_held_to(mmagent: Run, policies: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store")
    assert mmagent("index", policies / "returns.md", *store, "--meta", "lang=en", "--meta", "year=2024").code == 0
    assert mmagent("index", policies / "more", *store, "--tenant", "acme", "--meta", "year=2025").code == 0

    def uris(*options: str) -> list[str]:
        done = mmagent("search", "costs of a return", "--knowledge", tmp_path / "store", "--json", *options)
        assert done.code == 0, done.err
        return [Path(hit["uri"]).name for hit in done.json]

    assert uris() == ["returns.md"]
    assert sorted(uris("--tenant", "acme")) == ["returns.md", "shipping.md"]
    assert uris("--tenant", "acme", "--where", "year=2025") == ["shipping.md"]
    assert uris("--tenant", "acme", "--where", '{"year": {"$lt": 2025}}', "--where", "lang=en") == ["returns.md"]
    assert uris("--where", "lang=de") == []
    assert uris("--kind", "image") == []
    assert uris("--mode", "lexical") == ["returns.md"]


def test_a_search_that_is_no_search(mmagent: Run, policies: Path) -> None:
    done = mmagent("search", "--knowledge", policies)
    assert (done.code, done.err) == (2, "error: there is nothing to look for; give words, or a picture with --image\n")
    done = mmagent("search", "x", "--knowledge", policies, "--where", "{]")
    assert (done.code, done.out) == (2, "")
    assert "give KEY=VALUE or a JSON object" in done.err
    done = mmagent("search", "x", "--knowledge", policies, "--image", policies / "none.png")
    assert done.code == 2
    assert "there is no file" in done.err


def test_an_unknown_kind_is_refused_with_those_that_there_are(mmagent: Run, policies: Path) -> None:
    done = mmagent("search", "x", "--knowledge", policies, "--kind", "foo")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("error: --kind foo is no kind")
    assert line.endswith("give one of text, speech, image, page, region, frame")
    for kind in KINDS:
        assert mmagent("search", "x", "--knowledge", policies, "--kind", kind).code == 0


def test_a_search_says_what_is_left_out(mmagent: Run, policies: Path) -> None:
    (policies / "blank.md").write_text(" \n")
    done = mmagent("search", "shipping", "--knowledge", policies, "--json")
    assert (done.code, len(done.json)) == (0, 2)
    (line,) = done.err.splitlines()
    assert line.startswith("note: blank.md is left out: ")


def test_hits_say_where_they_stand_and_their_pages_are_written(mmagent: Run, pdf: Path, tmp_path: Path) -> None:
    from PIL import Image

    done = mmagent("search", "table structure", "--knowledge", pdf, "-n", "2", "--save", tmp_path / "hits")
    assert done.code == 0, done.err
    first, passage, picture = done.out.splitlines()[:3]
    assert first.endswith("(paper.pdf, p. 1)")
    assert passage.startswith("    ")
    assert picture == f"    {tmp_path / 'hits' / '1.png'}"
    with Image.open(tmp_path / "hits" / "1.png") as page:
        assert min(page.size) > 300


def test_words_of_a_document_do_not_command_the_terminal(mmagent: Run, policies: Path) -> None:
    (policies / "evil.md").write_text("# Evil \x1b[2J\n\nThe zebra \x1b]0;owned\x07 runs.\n")
    done = mmagent("search", "zebra", "--knowledge", policies, "-n", "1")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert "zebra \\x1b]0;owned\\x07 runs" in done.out


# store


def test_a_store_is_looked_into(mmagent: Run, policies: Path) -> None:
    mmagent("index", policies)
    stats = mmagent("store", "stats", policies, "--json").json
    assert (stats["documents"], stats["units"], stats["search"]) == (2, 2, "exact")
    assert [(space["role"], space["dimension"], space["vectors"]) for space in stats["spaces"]] == [("text", 384, 2)]
    said = mmagent("store", "stats", policies).out
    assert "documents  2, 2 passages and pictures\n" in said
    assert "text: 2 vectors of 384 numbers, " in said
    rows = [line.split("\t") for line in mmagent("store", "list", policies).out.splitlines()]
    assert sorted(row[0] for row in rows) == ["more/shipping.md", "returns.md"]
    assert {asset["uri"] for asset in mmagent("store", "list", policies, "--json").json} == {row[0] for row in rows}


def test_one_is_not_several(mmagent: Run, policies: Path) -> None:
    (policies / "more" / "shipping.md").unlink()
    (policies / "blank.md").write_text(" \n")
    assert mmagent("index", policies).out.startswith("1 document, 1 passage\n")
    said = mmagent("store", "stats", policies).out
    assert "documents  1, 1 passage or picture; 1 file cannot be read\n" in said
    assert "text: 1 vector of 384 numbers, " in said
    assert mmagent("store", "rebuild", policies).out == "the indexes of 1 passage are built anew\n"


def test_documents_are_taken_out(mmagent: Run, policies: Path) -> None:
    mmagent("index", policies)
    assert mmagent("store", "remove", policies, policies / "more").out == "1 document is removed\n"
    assert [asset["uri"] for asset in mmagent("store", "list", policies, "--json").json] == ["returns.md"]
    done = mmagent("store", "remove", policies, "nothing.md")
    assert (done.code, done.out) == (2, "")
    assert "has no document nothing.md; mmagent store list" in done.err
    assert (policies / "more" / "shipping.md").is_file()


def test_a_store_is_verified_and_built_anew(mmagent: Run, policies: Path) -> None:
    store = mmagent("index", policies, "--json").json["stores"][0]["store"]
    assert (mmagent("store", "verify", policies).out, mmagent("store", "verify", store).code) == (
        "nothing is wrong\n",
        0,
    )
    with closing(sqlite3.connect(Path(store) / "manifest.sqlite3")) as database, database:
        database.execute("DELETE FROM vectors WHERE unit = (SELECT max(unit) FROM vectors)")
    done = mmagent("store", "verify", policies)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    problems = mmagent("store", "verify", policies, "--json")
    assert (problems.code, problems.json["ok"]) == (1, False)


def test_building_anew_embeds_nothing(mmagent: Run, policies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmagent.knowledge.embed.minilm import MiniLM

    mmagent("index", policies)
    monkeypatch.setattr(MiniLM, "embed", lambda self, texts: pytest.fail("it embeds"))
    assert mmagent("store", "rebuild", policies).out == "the indexes of 2 passages are built anew\n"


@pytest.mark.parametrize("command", ["stats", "list", "verify", "rebuild"])
def test_there_is_no_store(mmagent: Run, policies: Path, command: str) -> None:
    done = mmagent("store", command, policies)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: there is no store of {policies}; make one with: mmagent index {policies}\n"


# eval


def test_retrieval_is_measured(mmagent: Run, policies: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmagent.evaluate.retrieval", reason="the evaluation is not there")
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"query": "How long can I send things back?", "relevant": ["returns.md"], "answer": "30 days"},
        {"query": "What does delivery cost?", "relevant": ["more/shipping.md"]},
    ]
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = ("--knowledge", policies, "--questions", questions)
    done = mmagent("eval", "retrieval", *options, "-k", "1,2")
    assert done.code == 0, done.err
    assert "| recall@1 | 1.0000 |" in done.out
    assert "| citation precision | 1.0000 |" in done.out
    assert done.err == ""
    assert [row["cited"] for row in mmagent("eval", "retrieval", *options, "--json").json["rows"]] == [True, True]
    assert mmagent("eval", "retrieval", *options, "-k", "1,x").err.startswith("error: -k 1,x is no list of numbers")


def test_documents_that_cannot_be_found_are_told_once(mmagent: Run, policies: Path, tmp_path: Path) -> None:
    (policies / "blank.md").write_text(" \n")
    questions = tmp_path / "questions.jsonl"
    missing = [f"gone{number}.md" for number in range(7)]
    rows = [{"query": "Shipping?", "relevant": ["more/shipping.md", "blank.md", *missing]}] * 2
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = mmagent("eval", "retrieval", "--knowledge", policies, "--questions", questions, "--json")
    assert (done.code, done.json["questions"]) == (0, 2)
    left_out, *told, more = done.err.splitlines()
    assert left_out.startswith("note: blank.md is left out: ")
    assert [line.split()[1] for line in told] == ["blank.md", *missing[:4]]
    assert all(line.startswith("note: ") and "not in the store" in line for line in told)
    assert more == "note: 3 more documents of the questions are not in the store"


# In a process of its own

MAIN = "from mmagent.cli.main import main\nmain()"


class Process:
    """A command whose lines are read as they come."""

    def __init__(self, *arguments: str | Path, first: str = "") -> None:
        command = [sys.executable, "-c", f"{first}{MAIN}", *map(str, arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, bufsize=1)

    def line(self, seconds: float = 120) -> str:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], seconds)[0], "nothing is printed"
        return self.process.stdout.readline().rstrip("\n")

    def interrupted(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*arguments: str | Path, first: str = "") -> Process:
        started.append(Process(*arguments, first=first))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_watching_prints_a_line_for_each_change(process: Callable[..., Process], mmagent: Run, policies: Path) -> None:
    watching = process("index", policies, "--watch")
    assert watching.line().endswith("2 added, 0 updated, 0 removed, 2 documents")
    (policies / "new.md").write_text("# New\n\nPandas eat bamboo.\n")
    assert watching.line().endswith("1 added, 0 updated, 0 removed, 3 documents")
    done = mmagent("search", "bamboo", "--knowledge", policies, "-n", "1", "--json")  # while it is watched
    assert (done.code, done.json[0]["uri"]) == (0, "new.md")
    (policies / "new.md").unlink()
    assert watching.line().endswith("0 added, 0 updated, 1 removed, 2 documents")
    code, out, err = watching.interrupted()
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "note: watching for changes; Ctrl-C ends it",
        "note: no longer watching; what was taken in stays",
    ]


TOLD = """
from mmagent.knowledge import Knowledge

add = Knowledge.add

def told(self, *paths, progress, **options):
    def show(now):
        progress(now)
        print(now.units, flush=True)
    return add(self, *paths, progress=show, **options)

Knowledge.add = told
"""


def test_ctrl_c_keeps_what_is_taken_in(process: Callable[..., Process], mmagent: Run, tmp_path: Path) -> None:
    folder, store = tmp_path / "many", tmp_path / "store"
    folder.mkdir()
    for number in range(6000):
        (folder / f"{number:04}.txt").write_text(f"Lamp {number}.")
    indexing = process("index", folder, "--store", store, first=TOLD)
    while indexing.line() == "0":
        pass
    code, _, err = indexing.interrupted()
    assert code == 130
    note, error = err.splitlines()
    assert note.endswith("documents are in; the same command goes on from there")
    assert error == "error: interrupted"
    kept = int(note.split()[1].replace(",", ""))
    assert 0 < kept < 6000
    assert mmagent("store", "verify", store).code == 0
    assert mmagent("store", "stats", store, "--json").json["documents"] == kept


NEWS = """
from mmagent.knowledge import Knowledge, Progress

add = Knowledge.add

def told(self, *paths, progress, **options):
    progress(Progress(1, 7, 1, "[red]a\x1b\\n.md"))
    return add(self, *paths, progress=progress, **options)

Knowledge.add = told
"""


def test_a_progress_bar_in_a_terminal(policies: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with (tmp_path / "out").open("w") as out:
        done = subprocess.Popen(
            [sys.executable, "-c", f"{NEWS}{MAIN}", "index", str(policies)],
            stdout=out,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        )
    os.close(theirs)
    screen = b""
    with suppress(OSError):  # Linux says in this way that nobody has the terminal open any more
        while data := os.read(ours, 4096):
            screen += data
    os.close(ours)
    assert done.wait(120) == 0
    assert b"1/7" in screen
    assert b"[red]a\\x1b .md" in screen
    assert (tmp_path / "out").read_text().startswith("2 documents, 2 passages\n")
