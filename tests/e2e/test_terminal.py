"""The terminal app in a real terminal: tmux types, and looks at what stands on the screen."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"
POLICY = "rules:\n  - ask: lookup_order\n    why: orders are private\n"
READY = "nano · new"
pytestmark = [
    pytest.mark.nano,
    pytest.mark.xdist_group("terminal"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Tmux:
    """A terminal of 100 columns and 30 rows with a shell in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        names = ("PATH", "LANG", "HOME", "MMAGENT_DATA_DIR", "MMAGENT_CONFIG_DIR")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        environment = {**kept, "LC_ALL": "C.UTF-8", "PS1": "$ ", "OMP_NUM_THREADS": "1"}
        command = ["new-session", "-d", "-x", "100", "-y", "30", "bash", "--norc"]
        subprocess.run(["tmux", "-f", "/dev/null", "-S", self._socket, *command], check=True, env=environment, cwd=ROOT)

    def do(self, *command: str) -> str:
        """A command of tmux."""
        done = subprocess.run(["tmux", "-S", self._socket, *command], check=True, capture_output=True, text=True)
        return done.stdout

    def type(self, text: str, *keys: str) -> None:
        """Write a text, then press keys."""
        self.do("send-keys", "-l", text)
        if keys:
            self.do("send-keys", *keys)

    def press(self, *keys: str) -> None:
        """Press keys by their names."""
        self.do("send-keys", *keys)

    @property
    def screen(self) -> str:
        """What stands there."""
        return self.do("capture-pane", "-p")

    def wait(self, *words: str, seconds: float = 90) -> str:
        """Wait until all of these stand there."""
        return self.until(lambda screen: all(word in screen for word in words), f"{words}", seconds)

    def until(self, holds: Callable[[str], bool], what: str, seconds: float = 90) -> str:
        end = time.monotonic() + seconds
        while not holds(screen := self.screen):
            assert time.monotonic() < end, f"there is no {what}:\n{screen}"
            time.sleep(0.1)
        return screen

    def start(self, *options: str | Path) -> None:
        """Start the app in the shell, whose prompt comes back with the exit code."""
        command = shlex.join([sys.executable, "-m", "mmagent", "chat", *map(str, options)])
        self.type(f"clear; {command}; echo code=$?", "Enter")

    def pid(self) -> int:
        """The process of the app."""
        shell = self.do("display-message", "-p", "#{pane_pid}").strip()
        return int(subprocess.run(["pgrep", "-P", shell], check=True, capture_output=True, text=True).stdout.split()[0])

    def restored(self) -> bool:
        """Whether the usual screen is there again, with its cursor."""
        return self.do("display-message", "-p", "#{alternate_on} #{cursor_flag}").strip() == "0 1"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Tmux]:
    made = Tmux(tmp_path)
    yield made
    made.do("kill-server")


def test_from_start_to_a_cited_answer_and_back_after_a_kill(terminal: Tmux, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    options = ("--tools", SHOP / "tools.py", "--knowledge", SHOP / "policies", "--policy", policy)
    terminal.start(*options)
    terminal.wait(READY)

    terminal.do("set-buffer", str(SHOP / "receipt.png"))
    terminal.do("paste-buffer", "-p")  # as a terminal does with what is dropped on it
    terminal.wait("1 receipt.png")
    terminal.type("Can I still return the lamp?", "Enter")
    asked = terminal.wait("may it run?", "lookup_order", "y allow once")
    assert "orders are private" in asked and "A-48213" in asked
    time.sleep(0.6)  # yes does not count before
    terminal.press("y")
    answered = terminal.wait("18 days left", "returns.md")
    assert "lookup_order" in answered and "within 30 days" in re.sub(r"\s+", " ", answered)

    terminal.do("resize-window", "-x", "60", "-y", "24")
    terminal.until(lambda screen: "18 days" in screen and max(map(len, screen.splitlines())) <= 60, "narrow screen")
    terminal.do("resize-window", "-x", "100", "-y", "30")

    os.kill(terminal.pid(), signal.SIGKILL)
    terminal.wait("code=137")
    terminal.press("C-l")
    terminal.type("reset", "Enter")
    terminal.start(*options, "--session", "can-i-still-return-the-lamp")
    terminal.wait("18 days left", "returns.md", "nano · can-i-still-return-the-lamp")
    terminal.press("C-q")
    left = terminal.wait("code=0")
    assert "go on with: mmagent chat --session can-i-still-return-the-lamp" in re.sub(r"\n", "", left)
    assert terminal.restored()


def test_a_long_paste_an_interruption_and_an_end_by_a_signal(terminal: Tmux, tmp_path: Path) -> None:
    terminal.start()
    terminal.wait(READY)
    terminal.do("set-buffer", "\n".join(f"line {number}" for number in range(200)))
    terminal.do("paste-buffer", "-p")
    terminal.wait("[pasted text #1, 200 lines]")
    terminal.press("Enter")
    terminal.wait("line 199")
    terminal.press("Escape")
    terminal.until(lambda screen: "thinking" not in screen and "writing" not in screen, "end of the turn")
    terminal.type("/nothing", "Enter")
    terminal.wait("there is no command /nothing")
    os.kill(terminal.pid(), signal.SIGTERM)
    terminal.wait("code=")
    assert terminal.restored()
    assert "Traceback" not in terminal.screen


def test_where_no_app_can_be_drawn_there_are_lines(terminal: Tmux) -> None:
    terminal.type("export TERM=dumb", "Enter")
    terminal.start()
    terminal.wait("Ctrl-D ends the conversation")
    terminal.press("C-d")
    terminal.wait("code=0")
    terminal.type("export TERM=screen", "Enter")
    terminal.start("--plain")
    terminal.wait("Ctrl-D ends the conversation")
    terminal.press("C-d")
    terminal.wait("code=0")


def test_without_colour_it_works_as_well(terminal: Tmux) -> None:
    terminal.type("export NO_COLOR=1", "Enter")
    terminal.start()
    terminal.wait(READY)
    styles = re.findall(r"\x1b\[([\d;]+)m", terminal.do("capture-pane", "-p", "-e"))
    assert [style for style in styles if not grey(style)] == []
    terminal.press("C-q")
    terminal.wait("code=0")


def grey(style: str) -> bool:
    """Whether a style has no colour, but black, white, and what is between."""
    numbers = [int(number) for number in style.split(";")]
    while numbers:
        if numbers[:2] in ([38, 2], [48, 2]) and len(set(numbers[2:5])) > 1:
            return False
        if numbers[:2] in ([38, 5], [48, 5]) and 16 <= numbers[2] < 232 and len(set(_cube(numbers[2]))) > 1:
            return False
        if numbers[0] in (*range(31, 37), *range(41, 47), *range(91, 97), *range(101, 107)):
            return False
        numbers = numbers[{2: 5, 5: 3}.get(numbers[1] if len(numbers) > 1 else 0, 1) if numbers[0] in (38, 48) else 1 :]
    return True


def _cube(number: int) -> tuple[int, int, int]:
    """Red, green and blue of one of 256 colours, each from 0 to 5."""
    red, rest = divmod(number - 16, 36)
    return red, *divmod(rest, 6)
