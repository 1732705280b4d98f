from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmagent import Agent, Session, ToolContext, tool
from mmagent.agent.tools import load_tools
from mmagent.chat.protocol import ChatModel
from mmagent.errors import ConfigurationError, ModelError, StoreError, ToolError
from mmagent.media import BlobStore
from mmagent.session.journal import Draft
from mmagent.session.memory import MemoryJournal
from mmagent.session.sqlite import SqliteJournal
from mmagent.testing import FailingModel, FaultyJournal, KillAt, ScriptedModel, SlowModel, call, flaky
from mmagent.testing.wrappers import around


@tool(effect="read")
def find(what: str) -> str:
    """Find a thing."""
    return f"{what} is here"


def agent(model: ChatModel, tmp_path: Path, session: Session | None = None, *tools: object) -> Agent:
    blobs = BlobStore(tmp_path / "blobs")
    return Agent(model, tools or [find], session=session, builtins=False, blobs=blobs)  # type: ignore[arg-type]


NOTE = Draft("note", {"n": 1})


def test_a_journal_fails_at_the_nth_append_or_at_a_kind() -> None:
    journal = FaultyJournal(MemoryJournal(), 2)
    session = journal.create("a")
    assert journal.append(session, [NOTE]) == 1
    with pytest.raises(StoreError, match="the disk is full"):
        journal.append(session, [NOTE])
    assert journal.append(session, [NOTE]) == 2
    assert (journal.appends, journal.failed) == (3, 1)
    journal = FaultyJournal(MemoryJournal(), "note", times=2, error=OSError(28, "No space left on device"))
    session = journal.create("a")
    assert journal.append(session, [Draft("other", {})]) == 1
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            journal.append(session, [Draft("other", {}), NOTE])
    assert journal.append(session, [NOTE]) == 2


def test_a_journal_may_fail_after_it_has_written() -> None:
    journal = FaultyJournal(MemoryJournal(), 1, after=True)
    session = journal.create("a")
    with pytest.raises(StoreError):
        journal.append(session, [NOTE])
    assert [entry.kind for entry in journal.read(session)] == ["note"]


async def test_a_session_whose_journal_failed_goes_on(tmp_path: Path) -> None:
    session = Session("a", FaultyJournal(MemoryJournal(), "intent"), saved=False)
    asked = agent(ScriptedModel([call("find", what="A"), "fine"]), tmp_path, session)
    with pytest.raises(StoreError, match="the disk is full"):
        await asked.arun("Where is A?")
    assert (await asked.arun("Hello?")).text == "fine"


async def test_a_model_breaks_off_then_works(tmp_path: Path) -> None:
    asked = agent(FailingModel(ScriptedModel(["one two three", "four"]), after_tokens=2), tmp_path)
    with pytest.raises(ModelError, match="the connection to the model was lost"):
        await asked.arun("Count.")
    assert [message.text for message in asked.session.messages][-1] == "one two "
    assert (await asked.arun("Go on.")).text == "four"


async def test_a_model_that_says_little_breaks_off_before_its_end(tmp_path: Path) -> None:
    asked = agent(FailingModel(ScriptedModel(["one"]), after_tokens=9, error=ValueError("odd")), tmp_path)
    with pytest.raises(ModelError, match="odd"):
        await asked.arun("Count.")


async def test_a_slow_model_says_the_same(tmp_path: Path) -> None:
    model = SlowModel(ScriptedModel(["one two"]), 0.001)
    assert model.name == "scripted"
    assert (await agent(model, tmp_path).arun("Count.")).text == "one two"


async def test_a_flaky_tool_fails_first(tmp_path: Path) -> None:
    model = ScriptedModel([call("find", what="A"), call("find", what="A"), "end"])
    result = await agent(model, tmp_path, None, flaky(find)).arun("go")
    shown = [message.text for message in result.messages if message.role == "tool"]
    assert shown == ["error: the service is not available; try again", "A is here"]
    assert find(what="B") == "B is here"


async def test_every_kind_of_function_can_be_wrapped(tmp_path: Path) -> None:
    from mmagent import Progress

    @tool
    async def later(n: int) -> str:
        """Later."""
        return f"later {n}"

    @tool
    def steps(n: int):  # type: ignore[no-untyped-def]
        """Steps."""
        yield Progress("half")
        return f"steps {n}"

    @tool
    async def pieces(n: int):  # type: ignore[no-untyped-def]
        """Pieces."""
        yield Progress("half")
        yield f"pieces {n}"

    tools = [flaky(one, 1, ToolError("no")) for one in (later, steps, pieces)]
    names = ("later", "steps", "pieces")
    model = ScriptedModel([call(name, n=n) for name in names for n in (1, 2)] + ["end"])
    result = await agent(model, tmp_path, None, *tools).arun("go")
    shown = [message.text for message in result.messages if message.role == "tool"]
    assert shown == ["error: no", "later 2", "error: no", "steps 2", "error: no", "pieces 2"]


async def test_what_a_function_returns_is_over_before_what_comes_after() -> None:
    said: list[str] = []

    class Asks:
        __name__ = "asks"

        async def __call__(self) -> str:
            """Asks."""
            said.append("asked")
            return "yes"

    def plain() -> Any:
        """Returns a coroutine."""
        return Asks()()

    for function in (Asks(), plain):
        one: Any = tool(function)
        made = around(one, lambda: said.append("before"), lambda: said.append("after"))
        assert await made.call({}, ToolContext()) == "yes"
    assert said == ["before", "asked", "after"] * 2


def test_an_isolated_tool_cannot_be_wrapped(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from mmagent import tool\n\n@tool(isolate=True)\ndef pay() -> None:\n    'Pay.'\n"
    )
    (pay,) = load_tools(tmp_path / "shop.py")
    for wrap in (flaky, KillAt("effect").tool):
        with pytest.raises(ConfigurationError, match="the tool pay is isolated"):
            wrap(pay)


def test_a_step_has_to_be_one() -> None:
    with pytest.raises(ValueError, match="there is no step 'commit'; there are: admit, model"):
        KillAt("commit")  # type: ignore[arg-type]


MOMENTS = [(step, after) for step in ("admit", "model", "intent", "effect", "outcome", "answer") for after in (0, 1)]


@pytest.mark.parametrize(("step", "after"), MOMENTS)
async def test_each_moment_comes_once(step: str, after: int, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    def turn(killer: KillAt) -> Agent:
        session = Session("a", killer.journal(MemoryJournal()), saved=False)
        model = killer.model(ScriptedModel([call("find", what="A"), "It is here."]))
        return agent(model, tmp_path, session, killer.tool(find))

    reached: list[int] = []
    nth = 2 if step == "model" else 1
    killer = KillAt(step, after=bool(after), nth=nth, kill=lambda: reached.append(1))  # type: ignore[arg-type]
    assert (await turn(killer).arun("Where is A?")).text == "It is here."
    assert reached == [1]


CHILD = """
import sys
from pathlib import Path
from mmagent import Agent, Session, tool
from mmagent.media import BlobStore
from mmagent.session.sqlite import SqliteJournal
from mmagent.testing import KillAt, ScriptedModel, call

folder, step, after = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1"
kill = KillAt(step, after=after)

@tool
def pay(euros: int) -> str:
    "Pay."
    with open(folder / "paid", "a") as file:
        file.write("x")
    return "paid"

session = Session("a", kill.journal(SqliteJournal(folder / "sessions.db")))
model = kill.model(ScriptedModel([call("pay", euros=3), "Paid."]))
Agent(model, [kill.tool(pay)], session=session, builtins=False, blobs=BlobStore(folder)).run("Pay 3 euros.")
"""


@pytest.mark.parametrize(("step", "after"), [("admit", 1), ("effect", 0), ("effect", 1), ("answer", 1)])
def test_it_really_dies_there(step: str, after: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path), step, str(after)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    messages = Session("a", SqliteJournal(tmp_path / "sessions.db")).messages
    paid = (tmp_path / "paid").read_text() if (tmp_path / "paid").exists() else ""
    assert messages[0].text == "Pay 3 euros."
    assert paid == ("x" if (step, after) in (("effect", 1), ("answer", 1)) else "")
    if step == "effect":
        assert "it is unknown whether pay took effect" in messages[-1].text
    if step == "answer":
        assert messages[-1].text == "Paid."
