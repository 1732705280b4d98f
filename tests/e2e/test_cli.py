"""The command line, end to end: the real agent, session and knowledge store, and a model that plays a script."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmagent.chat.scripted import ScriptedModel, Step, call
from mmagent.cli.main import main
from mmagent.events import EVENTS
from mmagent.session import Session

TOOLS = '''
import threading
from mmagent import ToolError, tool

@tool(effect="read")
def lookup_order(order_id: str) -> dict[str, str]:
    """Find an order.

    Args:
        order_id: Its number.
    """
    if order_id != "A-48213":
        raise ToolError(f"there is no order {order_id}")
    return {"item": "lamp", "bought": "2026-11-02"}

@tool(effect="read")
def broken() -> str:
    """Raise."""
    raise KeyError("order")

@tool(effect="read", timeout=0.2)
def hanging() -> str:
    """Hang."""
    threading.Event().wait()
    return "never"
'''
POLICY = "# Returns\n\n## Return window\n\nYou can return an item within 30 days of the purchase.\n"


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def mmagent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, with a scripted model if a script is given."""

    def run(*arguments: str | Path, script: list[Step] | None = None, stdin: str | bytes | None = None) -> Done:
        if script is not None:
            monkeypatch.setattr("mmagent.chat.factory.load_model", lambda name=None: ScriptedModel(script))
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        code = end.value.code
        assert isinstance(code, int)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    path = tmp_path / "shop_tools.py"
    path.write_text(TOOLS)
    return path


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "returns.md").write_text(POLICY)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from PIL import Image

    path = tmp_path / "receipt.png"
    Image.new("RGB", (48, 64), "white").save(path)
    return path


def png(width: int, height: int) -> bytes:
    """A valid black PNG with one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# The main job


def test_a_question_with_a_picture_tools_and_policies(mmagent: Run, picture: Path, tools: Path, policies: Path) -> None:
    script: list[Step] = [
        ["I look the order up. ", call("lookup_order", order_id="A-48213")],
        call("search_knowledge", query="return window"),
        "Yes, within 30 days of the purchase [1].",
    ]
    options = ("-a", picture, "--tools", tools, "--knowledge", policies)
    done = mmagent("run", "Can I still return the lamp?", *options, script=script)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "Yes, within 30 days of the purchase [1]."
    assert re.fullmatch(
        r'\[1\] Returns > Return window \(returns\.md\): ".*within 30 days.*"', done.out.splitlines()[1]
    )
    wanted = [
        "model scripted",
        "picture receipt.png (48×64)",
        "I look",
        "→ lookup_order(",
        '← {"item": "lamp"',
        "3 steps",
    ]
    assert [line for line in wanted if line not in done.err] == []


@pytest.mark.parametrize("arguments", [["-"], []])
def test_the_question_can_come_through_a_pipe(mmagent: Run, arguments: list[str]) -> None:
    done = mmagent("run", *arguments, script=[lambda request: request.messages[-1].text.upper()], stdin="hello\n")
    assert (done.code, done.out) == (0, "HELLO\n")


def test_json_is_one_object_and_stdout_has_nothing_else(mmagent: Run, tools: Path) -> None:
    script: list[Step] = [call("lookup_order", order_id="A-1"), "There is no such order."]
    done = mmagent("run", "hello", "--tools", tools, "--json", script=script)
    answer = json.loads(done.out)
    assert answer["text"] == "There is no such order."
    assert answer["calls"][0]["error"] == "there is no order A-1"
    assert done.code == 0  # the tool said what was wrong; that is no crash
    assert done.err == ""


def test_stream_json_is_one_event_a_line(mmagent: Run) -> None:
    done = mmagent("run", "hello", "--stream-json", script=["good day"])
    events = [EVENTS.validate_json(line) for line in done.out.splitlines()]
    assert [event.type for event in events][:2] == ["turn_started", "step_started"]
    assert events[-1].type == "turn_finished"


def test_the_same_question_can_be_asked_of_a_named_prompt_or_in_words(mmagent: Run, tmp_path: Path) -> None:
    def system(*options: str | Path) -> str:
        return mmagent("run", "hi", *options, script=[lambda request: request.messages[0].text]).out

    assert "You are a pirate." in system("--instructions", "You are a pirate.")
    (tmp_path / "shop.md").write_text("You sell lamps.")
    assert "You sell lamps." in system("--instructions", "shop", "--prompts", tmp_path)
    assert "You sell lamps." not in system("--instructions", "shop")


def test_a_session_goes_on_and_is_listed(mmagent: Run) -> None:
    mmagent("run", "my name is Anna", "--session", "anna", script=["Hello Anna."])
    done = mmagent("run", "what is my name?", "--session", "anna", script=[lambda request: request.messages[1].text])
    assert done.out == "my name is Anna\n"
    (row,) = json.loads(mmagent("sessions", "--json").out)
    assert (row["name"], row["last"]) == ("anna", "what is my name?")
    assert "anna" in mmagent("sessions").out


def test_index_and_search(mmagent: Run, policies: Path) -> None:
    assert mmagent("index", policies).out.startswith("1 document, 1 passage\n")
    done = mmagent("search", "how long can I send it back", "--knowledge", policies)
    assert done.out.startswith("[1] Returns > Return window (returns.md)\n")
    assert "within 30 days" in done.out
    (hit,) = json.loads(mmagent("search", "return", "--knowledge", policies, "--json").out)
    assert hit["uri"] == "returns.md"


def test_max_steps_ends_a_turn_that_does_not(mmagent: Run, tools: Path) -> None:
    endless: list[Step] = [call("lookup_order", order_id="A-48213") for _ in range(3)]
    done = mmagent("run", "hello", "--tools", tools, "--max-steps", "2", script=endless)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: there was no answer after 2 steps")


# Bad input: one line that says what to do, an exit code, no traceback, nothing in history


def refused(done: Done, says: str, code: int) -> None:
    assert done.code == code
    assert "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert re.search(says, line), line
    assert done.out == ""
    assert Session.names() == []


def ask(mmagent: Run, *options: str | Path, question: str = "hello") -> Done:
    return mmagent("run", question, "--session", "bad", *options, script=["It must not come to this."])


def test_a_missing_picture(mmagent: Run, tmp_path: Path) -> None:
    refused(ask(mmagent, "-a", tmp_path / "none.png"), r"there is no file .*none\.png; give", 2)


def test_a_folder_as_a_picture(mmagent: Run, tmp_path: Path) -> None:
    refused(ask(mmagent, "-a", tmp_path), "is a folder", 2)


def test_a_text_file_with_the_name_of_a_picture(mmagent: Run, tmp_path: Path) -> None:
    path = tmp_path / "note.png"
    path.write_text("hello")
    refused(ask(mmagent, "-a", path), r"note\.png", 2)


def test_a_truncated_jpeg(mmagent: Run, tmp_path: Path) -> None:
    from PIL import Image

    Image.effect_noise((200, 200), 50).save(tmp_path / "whole.jpg")
    path = tmp_path / "half.jpg"
    path.write_bytes((tmp_path / "whole.jpg").read_bytes()[:5000])
    refused(ask(mmagent, "-a", path), r"half\.jpg", 2)


def test_a_picture_of_900_million_pixels(mmagent: Run, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(30_000, 30_000))
    refused(ask(mmagent, "-a", path), r"bomb\.png.*MMAGENT_MAX_IMAGE", 2)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question(mmagent: Run, question: str) -> None:
    refused(ask(mmagent, question=question), "the question is empty; give one", 2)
    refused(mmagent("run", "--session", "bad", stdin=question, script=[]), "the question is empty; give one", 2)


def test_a_policy_folder_that_does_not_exist(mmagent: Run, tmp_path: Path) -> None:
    refused(ask(mmagent, "--knowledge", tmp_path / "none"), "there is no folder .*none; give", 2)


def test_a_tool_file_that_does_not_exist(mmagent: Run, tmp_path: Path) -> None:
    refused(ask(mmagent, "--tools", tmp_path / "none.py"), r"there is no file .*none\.py; give", 2)


def test_a_tool_file_that_does_not_run(mmagent: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import mmagent\n1 / 0\n")
    refused(ask(mmagent, "--tools", tmp_path / "bad.py"), r"bad\.py, line 2: ZeroDivisionError", 2)


@pytest.mark.parametrize("name", ["nanoo", "./nowhere", "nobody/nothing-at-all"])
def test_an_unknown_model(mmagent: Run, name: str) -> None:
    refused(mmagent("run", "hello", "--session", "bad", "--model", name), "there is no|is not on this machine", 2)


def test_a_session_name_that_cannot_be_used(mmagent: Run) -> None:
    done = mmagent("run", "hello", "--session", "../etc", script=["no"])
    refused(done, "a session cannot be called", 2)


def test_a_knowledge_folder_in_use_by_another_process(mmagent: Run, policies: Path) -> None:
    opening = f"from mmagent import Knowledge\nopened = Knowledge.of_folder({str(policies)!r})"
    code = f"{opening}\nprint('open', flush=True)\ninput()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "open\n"
        assert ask(mmagent, "--knowledge", policies).code == 0
        other.communicate("\n")


def test_json_and_stream_json_together(mmagent: Run) -> None:
    done = ask(mmagent, "--json", "--stream-json")
    assert done.code == 2
    assert done.err == "error: --json and --stream-json exclude each other; give one of them\n"


def test_json_tells_the_refusal_on_stdout_too(mmagent: Run, tmp_path: Path) -> None:
    done = ask(mmagent, "-a", tmp_path / "none.png", "--json")
    assert json.loads(done.out)["error"]["type"] == "NotFound"
    assert done.code == 2


@pytest.mark.parametrize(
    ("name", "says"), [("broken", "broken failed: KeyError: 'order'"), ("hanging", "hanging timed out after 0.2 s")]
)
@pytest.mark.parametrize("option", ["--verbose", "--quiet", "--json", "--stream-json"])
def test_a_tool_that_crashes_fails_the_command_though_there_is_an_answer(
    mmagent: Run, tools: Path, name: str, says: str, option: str
) -> None:
    done = mmagent("run", "hello", "--tools", tools, option, script=[call(name), "I could not look it up."])
    assert done.code == 1
    assert [line for line in done.err.splitlines() if "error: " in line and says in line]
    assert "Traceback" not in done.err
    assert "I could not look it up." in done.out


def test_a_model_that_fails(mmagent: Run) -> None:
    from mmagent.errors import ModelError

    done = mmagent("run", "hello", script=[ModelError("the model is out of memory; choose a smaller one")])
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == "error: the model is out of memory; choose a smaller one"


def test_a_bug_is_one_line(mmagent: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(name: str | None = None) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("mmagent.chat.factory.load_model", bug)
    done = mmagent("run", "hello")
    assert done.code == 70
    assert done.err == "error: unexpected ZeroDivisionError: oh; run again with MMAGENT_DEBUG=1 to see the traceback\n"


@pytest.mark.parametrize("arguments", [["runn"], ["run", "--nope"], ["search", "x"], ["run", "hi", "--max-steps", "0"]])
def test_wrong_usage(mmagent: Run, arguments: list[str]) -> None:
    done = mmagent(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err


def test_an_unknown_recipe(mmagent: Run, tmp_path: Path) -> None:
    done = mmagent("train", "shop-v99", "--out", tmp_path)
    assert done.code == 2
    assert done.err.startswith("error: ")


# Conversations


def test_a_conversation_through_a_pipe(mmagent: Run) -> None:
    script: list[Step] = ["one", lambda request: str(len(request.messages))]
    done = mmagent("chat", script=script, stdin="first\n\nsecond\n")
    assert (done.code, done.out) == (0, "one\n4\n")
    assert "> " not in done.err


def test_pictures_are_attached_to_the_next_message_only(mmagent: Run, picture: Path) -> None:
    def pictures(request: object) -> str:
        return f"{len(request.messages[-1].media)} pictures"  # type: ignore[attr-defined]

    lines = f"a\n/attach {picture}\nb\nc\n"
    done = mmagent("chat", script=[pictures, pictures, pictures], stdin=lines)
    assert done.out == "0 pictures\n1 pictures\n0 pictures\n"


def test_a_bad_turn_does_not_end_a_conversation_but_fails_the_pipe(mmagent: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    lines = f"/attach {tmp_path}/none.png\n/attach {bad}\nlook\n/nonsense\nhello\n/quit\nnever\n"
    done = mmagent("chat", script=["good day"], stdin=lines)
    assert (done.code, done.out) == (1, "good day\n")
    complaints = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(complaints) == 3
    assert "there is no command /nonsense; there are: /attach FILE, /resume, /rewind [N], /help, /quit" in complaints[2]


def test_help_lists_the_commands(mmagent: Run) -> None:
    done = mmagent("chat", script=[], stdin="/help\n")
    assert done.code == 0
    assert all(command in done.err for command in ("/attach FILE", "/help", "/quit"))


def test_text_that_is_no_utf_8_is_no_bug(mmagent: Run) -> None:
    done = mmagent("chat", script=[lambda request: request.messages[-1].text], stdin=b"caf\xe9\n")
    assert (done.code, done.out) == (0, "caf�\n")


def test_a_conversation_goes_on_after_a_restart(mmagent: Run) -> None:
    mmagent("chat", "--session", "s", script=["one"], stdin="first\n")
    done = mmagent("chat", "--session", "s", script=[lambda request: request.messages[1].text], stdin="second\n")
    assert done.out == "first\n"


# In a terminal of its own

PLAY = """
import asyncio, sys
from mmagent.chat import factory
from mmagent.chat.scripted import ScriptedModel
from mmagent.cli.main import main

class Slow(ScriptedModel):
    async def stream(self, request):
        async for event in super().stream(request):
            yield event
            if "slowly" in request.messages[-1].text:
                await asyncio.Event().wait()

factory.load_model = lambda name=None: Slow(["good day"] * 9)
main(sys.argv[1:])
"""


class Terminal:
    """A process in a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self._fd, other = pty.openpty()
        self.screen = ""
        self._read = 0
        own = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)"  # so that Ctrl-C is sent to it
        self.process = subprocess.Popen(
            [sys.executable, "-c", own + PLAY, *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env=os.environ | {"TERM": "dumb"},
            start_new_session=True,
        )
        os.close(other)

    def until(self, text: str, seconds: float = 60) -> None:
        """Read until a text appears after the one that was waited for before."""
        end = time.monotonic() + seconds
        while text not in self.screen[self._read :]:
            if not self._more(end - time.monotonic()):
                raise TimeoutError(f"{text!r} did not appear in: {self.screen!r}")
        self._read = self.screen.index(text, self._read) + len(text)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C until a text appears: Python's readline does not notice one just before it waits for a key."""
        for _ in range(20):
            self.type("\x03")
            with suppress(TimeoutError):
                return self.until(text, seconds=3)
        raise TimeoutError(f"{text!r} did not appear in: {self.screen!r}")

    def ended(self) -> int:
        """Read to the end; the exit code."""
        while self._more(60):
            pass
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def _more(self, seconds: float) -> bool:
        """Read what there is; False at the end, or after so long."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._fd, 4096)
        except OSError:  # Linux says in this way that nobody has the terminal open any more
            return False
        self.screen += data.decode()
        return bool(data)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_conversation_in_a_terminal(terminal: Callable[..., Terminal]) -> None:
    chat = terminal("chat")
    chat.until("> ")
    chat.type("hello\n")
    chat.until("good day")
    chat.until("> ")
    chat.type("\x04")
    assert chat.ended() == 0
    assert "Traceback" not in chat.screen


def test_ctrl_c_cancels_a_turn_and_a_second_one_quits(terminal: Callable[..., Terminal]) -> None:
    chat = terminal("chat")
    chat.until("> ")
    chat.type("slowly\n")
    chat.until("good")
    chat.interrupt("cancelled")
    chat.until("> ")
    chat.type("and now?\n")
    chat.until("good day")
    chat.until("> ")
    chat.interrupt("> ")
    chat.interrupt("error: interrupted")
    assert chat.ended() == 130
    assert "Traceback" not in chat.screen


def test_ctrl_c_ends_a_run(terminal: Callable[..., Terminal]) -> None:
    run = terminal("run", "slowly")
    run.until("good")
    run.interrupt("error: interrupted")
    assert run.ended() == 130
    assert "Traceback" not in run.screen


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -c '{PLAY}' run hello --stream-json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith('{"type":"turn_started"')
    assert done.stderr == ""


def test_a_tool_that_hangs_does_not_keep_the_process(tools: Path) -> None:
    code = PLAY.replace('["good day"] * 9', '[call("hanging"), "done"]').replace(
        "import ScriptedModel", "import ScriptedModel, call"
    )
    command = [sys.executable, "-c", code, "run", "hello", "--tools", str(tools), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "done\n")
    assert done.stderr == "error: hanging timed out after 0.2 s\n"


# With the model that ships


@pytest.mark.nano
def test_the_model_that_ships_answers(mmagent: Run) -> None:
    done = mmagent("run", "Hello!", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["text"].strip()


@pytest.mark.nano
@pytest.mark.nano("speech")
def test_the_doctor_finds_nothing_wrong(mmagent: Run) -> None:
    done = mmagent("doctor", "--json")
    assert done.code == 0, done.out
