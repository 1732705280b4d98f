from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmagent.chat.protocol import (
    Capabilities,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
)
from mmagent.content import Message, text
from mmagent.errors import ContextOverflow, InputError, ModelError, NotFound
from mmagent.media import BlobStore
from mmagent.redact import MASK
from mmagent.testing import RecordingModel, ReplayModel, RequestDiffers, ScriptedModel, call, record
from mmagent.testing.replay import _same

CANARY = "canary-9f8e7d6c5b"


@pytest.fixture
def asked(tmp_path: Path) -> ModelRequest:
    return ModelRequest((Message(role="user", content=(text("Where is my order?"),)),), BlobStore(tmp_path))


async def play(model: RecordingModel | ReplayModel, request: ModelRequest) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


def other(request: ModelRequest, words: str) -> ModelRequest:
    return replace(request, messages=(*request.messages, Message(role="user", content=(text(words),))))


async def test_what_was_recorded_plays_back(asked: ModelRequest, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recording = record(ScriptedModel([["Let me see.", call("find", what="A-17")], "It is  on\nits way."]), path)
    answers = [await play(recording, asked), await play(recording, other(asked, "And?"))]
    assert recording.count_tokens(asked) == 4
    replay = ReplayModel(path)
    assert [await play(replay, asked), await play(replay, other(asked, "And?"))] == answers
    assert (replay.name, replay.capabilities) == (recording.name, recording.capabilities)
    assert replay.count_tokens(asked) == 4
    assert replay.count_tokens(other(asked, "new")) > 0
    replay.assert_finished()
    with pytest.raises(RequestDiffers, match="has 2 requests and this is one more"):
        await play(replay, asked)


async def test_a_request_that_differs_is_shown_as_a_diff(asked: ModelRequest, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await play(record(ScriptedModel(["x"]), path), asked)
    replay = ReplayModel(path)
    with pytest.raises(RequestDiffers) as raised:
        await play(replay, other(asked, "And the lamp?"))
    assert isinstance(raised.value, ModelError)
    assert "request 1 is not the one in" in str(raised.value)
    assert '+     "text": "And the lamp?"' in str(raised.value)
    with pytest.raises(AssertionError, match="1 requests; 0 were asked again"):
        replay.assert_finished()


async def test_it_can_look_at_the_last_message_only(asked: ModelRequest, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await play(record(ScriptedModel(["x"]), path), asked)
    system = Message(role="system", content=(text("New instructions."),))
    changed = replace(asked, messages=(system, *asked.messages))
    with pytest.raises(RequestDiffers, match="New instructions"):
        await play(ReplayModel(path), changed)
    assert await play(ReplayModel(path, match="last_message"), changed)
    with pytest.raises(RequestDiffers, match="Something else"):
        await play(ReplayModel(path, match="last_message"), other(asked, "Something else"))


async def test_secrets_are_masked_even_where_they_are_streamed_in_pieces(
    asked: ModelRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_API_KEY", CANARY)
    path = tmp_path / "run.jsonl"
    script = [[f"The key is {CANARY}.", call("log_in", key=CANARY)], ModelError(f"wrong key {CANARY}")]
    recording = record(ScriptedModel(script, chunk=3), path)
    question = other(asked, f"My key is {CANARY}.")
    await play(recording, question)
    with pytest.raises(ModelError):
        await play(recording, question)
    assert CANARY not in path.read_text(encoding="utf-8")
    monkeypatch.delenv("SHOP_API_KEY")
    replay = ReplayModel(path)
    events = await play(replay, question)  # masked then, anything now
    assert "".join(event.text for event in events if isinstance(event, ModelText)) == "The key is **********."
    with pytest.raises(ModelError, match=r"wrong key \*+"):
        await play(replay, question)


async def test_media_are_hashes(asked: ModelRequest, tmp_path: Path) -> None:
    import PIL.Image

    from mmagent.content import Image

    block = asked.blobs.admit(Image(PIL.Image.new("RGB", (64, 64))))
    question = Message(role="user", content=(text("What is it?"), block))
    path = tmp_path / "run.jsonl"
    await play(record(ScriptedModel(["black"]), path), replace(asked, messages=(question,)))
    (line,) = [json.loads(line) for line in path.read_text().splitlines() if "request" in line]
    assert line["request"]["messages"][0]["content"][1] == {
        "type": "image",
        "file_id": block["file_id"],
        "mime_type": "image/png",
    }


class Odd:
    """Thinks aloud, then fails or goes on for ever."""

    name = "odd"
    capabilities = Capabilities(context_length=10)

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def stream(self, request: ModelRequest):  # type: ignore[no-untyped-def]
        yield ModelReasoning("hm. let me")
        if self.error:
            raise self.error
        while True:
            yield ModelText("and ")

    def count_tokens(self, request: ModelRequest) -> int:
        return 1


async def test_errors_play_back_as_their_kind(asked: ModelRequest, tmp_path: Path) -> None:
    for error in (ContextOverflow("too long"), ModelError("lost"), ValueError("odd")):
        path = tmp_path / "run.jsonl"
        recording = record(Odd(error), path)
        with pytest.raises(type(error)):
            await play(recording, asked)
        kind = ContextOverflow if isinstance(error, ContextOverflow) else ModelError
        with pytest.raises(kind, match=str(error)):
            await play(ReplayModel(path), asked)


async def test_what_was_stopped_says_so(asked: ModelRequest, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    stream = record(Odd(None), path).stream(asked)
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    with pytest.raises(ModelError, match="was stopped when it was recorded"):
        await play(ReplayModel(path), asked)


def test_files_that_are_no_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        ReplayModel(tmp_path / "none.jsonl")
    for content in ("", "{}", "[1]", "no json", "\x00"):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(InputError, match="is no recording"):
            ReplayModel(tmp_path / "bad")
    (tmp_path / "old").write_text('{"recording": 0}')
    with pytest.raises(InputError, match="another version"):
        ReplayModel(tmp_path / "old")


async def test_an_agent_is_recorded_and_played_back(tmp_path: Path) -> None:
    from mmagent import Agent, tool

    @tool(effect="read")
    def find(what: str) -> str:
        """Find a thing."""
        return f"{what} is here"

    def agent(model: object) -> Agent:
        return Agent(model, [find], builtins=False, blobs=BlobStore(tmp_path / "blobs"))  # type: ignore[arg-type]

    path = tmp_path / "run.jsonl"
    first = agent(ScriptedModel([call("find", what="A"), "It is here."]))
    recording = record(first, path)
    assert first.model is recording
    assert (await first.arun("Where is A?")).text == "It is here."
    replay = ReplayModel(path)
    assert (await agent(replay).arun("Where is A?")).text == "It is here."
    replay.assert_finished()
    with pytest.raises(RequestDiffers, match="Where is B"):
        await agent(ReplayModel(path)).arun("Where is B?")


async def test_every_line_end_of_unicode_may_be_said(asked: ModelRequest, tmp_path: Path) -> None:
    path, said = tmp_path / "run.jsonl", "one\u2028two\u0085three\x0cfour\u2029"
    await play(record(ScriptedModel([said]), path), other(asked, said))
    events = await play(ReplayModel(path), other(asked, said))
    assert "".join(event.text for event in events if isinstance(event, ModelText)) == said


async def test_many_secrets_are_compared_at_once(asked: ModelRequest, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    keys = [f"api_key={CANARY}{n} next" for n in range(40)]
    await play(record(ScriptedModel(["yes"]), path), other(asked, " ".join(keys)))
    assert CANARY not in path.read_text()
    again = [key.replace(CANARY, "another-one-1234") for key in keys]
    await play(ReplayModel(path), other(asked, " ".join(again)))
    for differs in (again[1:], [*again, "end"], ["start", *again], [*again[:5], "else", *again[5:39]]):
        with pytest.raises(RequestDiffers):
            await play(ReplayModel(path), other(asked, " ".join(differs)))


def test_masked_pieces_follow_each_other() -> None:
    assert _same(MASK, "") and _same(f"a{MASK}b{MASK}c", "a1b2c") and _same(f"a{MASK}a", "aa")
    for asked in ("a", "a1c", "ab", "a1b2cd", "xa1b2c", "ac1b"):
        assert not _same(f"a{MASK}b{MASK}c", asked)
    assert not _same(f"a{MASK}a", "a")
    assert not _same(" ".join([f"k={MASK}"] * 30) + " end", " ".join(["k=secret"] * 300) + " END")
