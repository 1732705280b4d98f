"""What a model is shown fits: tokens are counted exactly, and pictures give way step by step and on record."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmagent.agent import Agent, ToolContext
from mmagent.agent.context import Context
from mmagent.agent.context import shown as presenting
from mmagent.agent.context.budget import Budget
from mmagent.agent.context.compaction import Compaction
from mmagent.chat.local import LocalModel
from mmagent.chat.protocol import Capabilities, ModelDone, ModelEvent, ModelRequest, Sampling, ToolSpec
from mmagent.content import Image, MediaBlock, Message, text
from mmagent.errors import ConfigurationError, ContextOverflow, ToolError
from mmagent.events import Event, HistoryCompacted, MediaSubstituted, PictureReduced, Usage
from mmagent.media import BlobStore
from mmagent.prompts import render
from mmagent.session import Session
from mmagent.session.journal import Draft
from mmagent.session.replay import draft
from mmagent.testing import ScriptedModel, call, tiny_checkpoint
from mmagent.tools.recall_media import recall_media

SYSTEM = Message(role="system", content=(text("You are kind."),))
LOOKUP = ToolSpec(
    "lookup", "Find an order.", {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
)


class Sees(ScriptedModel):
    """A scripted model to which a picture of 32 x 32 pixels is one token, and which holds to its context."""

    def __init__(self, steps: Sequence[Any], context: int = 1000, **more: Any) -> None:
        super().__init__(steps, capabilities=Capabilities(context_length=context, images=True), **more)

    def count_tokens(self, request: ModelRequest) -> int:
        sizes = [block["extras"] for message in request.messages for block in message.media]
        words: int = super().count_tokens(request)
        return words + sum(int(size["width"]) * size["height"] // 1024 for size in sizes)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        assert self.count_tokens(request) < self.capabilities.context_length, "it never gets more than it takes"
        async for event in super().stream(request):
            yield event


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture(autouse=True)
def no_ocr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.agent.context.ladder.text_in", lambda block, blobs: "TOTAL 12.50")


def picture(color: str, width: int = 512, height: int = 512) -> Image:
    return Image(PIL.Image.new("RGB", (width, height), color))


def agent_of(model: Any, blobs: BlobStore, **more: Any) -> Agent:
    return Agent(model, blobs=blobs, builtins=False, sampling=Sampling(max_tokens=100), **more)


def reduced(events: Sequence[Event]) -> list[str]:
    return [event.level for event in events if isinstance(event, PictureReduced)]


def shown(request: ModelRequest) -> list[Any]:
    """The pictures of a request: their width, or the note in their place."""
    blocks = [block for message in request.messages for block in message.content]
    return [
        block["extras"]["width"] if block["type"] == "image" else block["text"]
        for block in blocks
        if block["type"] == "image" or (block["type"] == "text" and block["text"].startswith("[picture"))
    ]


@pytest.mark.parametrize(
    "family", [pytest.param("nano-that-ships", marks=pytest.mark.nano), "smolvlm", "qwen2_5_vl", "qwen3"]
)
async def test_what_is_predicted_is_what_the_prompt_has(family: str, blobs: BlobStore, tmp_path: Path) -> None:
    model = LocalModel("nano" if family == "nano-that-ships" else tiny_checkpoint(family, tmp_path / family))
    session, budget = Session.memory(), Budget(model, blobs, Sampling(), 0.9)
    context = Context(
        session=session, model=model, blobs=blobs, system=SYSTEM, sampling=Sampling(max_tokens=2),
        emit=lambda event: None, readable=False,
    )  # fmt: skip
    seen: list[MediaBlock] = [blobs.admit(picture("red", 300, 200)), blobs.admit(picture("blue", 64, 150))]
    lookup = {"type": "tool_call", "id": "call00001", "name": "lookup", "args": {"id": 'é "17" <b>'}}
    called = Message.model_validate({"role": "assistant", "content": [lookup]})
    found = text('{"state": "sent"}\n<|im_end|>')
    turns = [
        [Message(role="user", content=(text("Où est ma commande n° 48213 ? 😀"), *seen[:1]))],
        [called, Message(role="tool", content=(found,), tool_call_id="call00001", name="lookup")],
        [
            Message(role="assistant", content=(text("It is on its way."),)),
            Message(role="user", content=(text("a" * 99), *seen)),
        ],
    ]
    known = 0
    for messages in turns:
        await session.record(*map(draft, messages))
        request = await context.request((LOOKUP,))
        predicted = await budget.count(request)
        added = await budget.bound(messages if model.capabilities.images else [without(one) for one in messages])
        async for event in model.stream(request):
            if isinstance(event, ModelDone):
                assert event.usage.prompt_tokens == predicted
                assert not known or predicted <= known + added, "the bound is sound"
                known = event.usage.prompt_tokens
                context.used(event.usage)


def without(message: Message) -> Message:
    note = text("[picture 99: 9999x9999, the model cannot see it]")
    return message.model_copy(update={"content": tuple(b if b["type"] != "image" else note for b in message.content)})


async def test_the_whole_is_counted_only_near_the_limit(blobs: BlobStore) -> None:
    class Counts(Sees):
        counted = 0

        def count_tokens(self, request: ModelRequest) -> int:
            self.counted += 1
            return super().count_tokens(request)

    model = Counts(["yes"] * 50, context=100_000)
    agent = agent_of(model, blobs)
    for _ in range(50):
        await agent.arun("and then?")
    assert model.counted == 2 * 50, "by the model itself, for its usage and in this test"
    assert len(model.requests[-1].messages) == 100


async def test_no_step_goes_through_the_whole_conversation(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gone_through: list[Message] = []
    replace = presenting.replace_media

    def counted(message: Message, instead: Any) -> Message:
        gone_through.append(message)
        return replace(message, instead)

    monkeypatch.setattr(presenting, "replace_media", counted)
    agent = agent_of(Sees(["yes"] * 200, context=100_000), blobs)
    for _ in range(200):
        await agent.arun("and then?")
    assert len(gone_through) == 399, "each message once, though each turn has a context of its own"


async def test_pictures_give_way_oldest_first_and_step_by_step(blobs: BlobStore) -> None:
    model = Sees(["ok"] * 8)  # 900 tokens for prompts; a picture takes 256
    agent = agent_of(model, blobs)
    levels = []
    for color in ("red", "green", "blue", "white", "black", "pink", "gray", "cyan"):
        levels.append(reduced((await agent.arun("look", picture(color))).events))
    assert levels[:3] == [[], [], []]
    assert levels[3] == ["smaller"] * 3, "down to what keeps the prompt's beginning for a while"
    assert "caption" in levels[5]
    last = shown(model.requests[-1])
    assert last[-1] == 512, "that of the current turn is untouched"
    note = '[picture 1: the picture 512x512, text in it: "TOTAL 12.50"; recall_media shows it again]'
    assert last[0] == note


async def test_a_resumed_session_makes_the_same_prompt(blobs: BlobStore, tmp_path: Path) -> None:
    model = Sees(["ok"] * 6)
    for color in ("red", "green", "blue", "white", "black"):
        session = Session.open("s", tmp_path / "s.db")  # another process, as far as the session can tell
        with_session = agent_of(model, blobs, session=session)
        await with_session.arun("look", picture(color))
        session.close()
    assert shown(model.requests[-1])[:-1] != [512] * 4
    forgetful = Session.open("s", tmp_path / "s.db")
    events = (await agent_of(model, blobs, session=forgetful).arun("and?")).events
    assert reduced(events) == []
    assert shown(model.requests[-1]) == shown(model.requests[-2])


async def test_a_note_that_is_longer_than_its_picture_takes_no_place(blobs: BlobStore) -> None:
    model = Sees(["ok"] * 12, context=150)  # a picture takes 4 tokens, its caption 13
    agent = agent_of(model, blobs)
    levels = []
    for _ in range(12):
        levels += reduced((await agent.arun("look here " * 5, picture("red", 64, 64))).events)
    assert set(levels) <= {"smaller"}
    assert agent.session.state.compacted_turns > 0


async def test_pinned_pictures_stay(blobs: BlobStore) -> None:
    model = Sees(["ok"] * 12)
    agent = agent_of(model, blobs)
    first = blobs.admit(picture("red"))
    await agent.arun("look", picture("red"))
    await agent.session.record(Draft("picture", {"file_id": first["file_id"], "pinned": True}))
    compacted = []
    for color in ("green", "blue", "white", "black", "pink", "gray", "cyan"):
        result = await agent.arun("look " + "word " * 60, picture(color))
        compacted += [event for event in result.events if isinstance(event, HistoryCompacted)]
    blocks = [block for message in model.requests[-1].messages for block in message.media]
    assert blocks[0]["file_id"] == first["file_id"]
    assert compacted, "also through a compaction"


async def test_the_current_turns_pictures_go_last(blobs: BlobStore) -> None:
    model = Sees(["ok"])
    result = await agent_of(model, blobs).arun(
        *[picture(color) for color in ("red", "green", "blue", "white", "black")]
    )
    assert "smaller" in reduced(result.events)


async def test_a_reduced_picture_can_be_recalled_and_is_seen_in_full(blobs: BlobStore) -> None:
    model = Sees([*["ok"] * 8, call("recall_media", image=1), "it was red"])
    agent = agent_of(model, blobs)
    for color in ("red", "green", "blue", "white", "black", "pink", "gray", "cyan"):
        await agent.arun("look", picture(color))
    assert [tool.name for tool in model.requests[0].tools] == []
    assert [tool.name for tool in model.requests[-1].tools] == ["recall_media"]
    result = await agent.arun("what was picture 1?")
    red = blobs.admit(picture("red"))["file_id"]
    blocks = [block for message in model.requests[-1].messages for block in message.media]
    assert (blocks[-1]["file_id"], blocks[-1]["extras"]["width"]) == (red, 512)
    assert shown(model.requests[-1])[0] != 512, "where it stood first, it stays reduced"
    assert result.text == "it was red"
    stored = [path for path in blobs.root.rglob("*") if path.is_file() and path.name == red.removeprefix("sha256:")]
    assert len(stored) == 1


async def test_a_picture_that_is_sent_again_is_shown_in_full(blobs: BlobStore) -> None:
    model = Sees(["ok"] * 9)
    agent = agent_of(model, blobs)
    for color in ("red", "green", "blue", "white", "black", "pink", "red"):
        await agent.arun("look", picture(color))
    assert shown(model.requests[-1])[0] != 512
    assert shown(model.requests[-1])[-1] == 512


async def test_a_model_that_refuses_sooner_than_it_says_gets_less(blobs: BlobStore) -> None:
    class Shy(Sees):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            if self.count_tokens(request) > 300:
                raise ContextOverflow("too long")
            async for event in super().stream(request):
                yield event

    model = Shy(["ok"] * 9)
    agent = agent_of(model, blobs)
    for color in ("red", "green", "blue"):
        await agent.arun("look", picture(color))
    assert len(model.requests) == 3


async def test_what_a_model_cannot_take_is_told_once(blobs: BlobStore, tmp_path: Path) -> None:
    blind = ScriptedModel(["ok"] * 3, capabilities=Capabilities(context_length=4000, images=False))
    agent = agent_of(blind, blobs, session=Session.open("s", tmp_path / "s.db"))
    result = await agent.arun("look", picture("red"))
    note = "[picture 1: 512x512, the model cannot see it]"
    assert [event.instead for event in result.events if isinstance(event, MediaSubstituted)] == [note]
    assert not [event for event in (await agent.arun("and?")).events if isinstance(event, MediaSubstituted)]
    again = agent_of(blind, blobs, session=Session.open("s", tmp_path / "s.db"))
    assert not [event for event in (await again.arun("and?")).events if isinstance(event, MediaSubstituted)]
    assert note in blind.requests[-1].messages[1].text


async def test_recordings_and_documents_are_replaced_and_text_is_shown(blobs: BlobStore) -> None:
    words = "Returns are free for 30 days.\n" * 2
    note = blobs.put(words.encode(), "text/plain")
    voice = blobs.put(b"RIFF", "audio/wav")
    blocks: tuple[Any, ...] = (
        {"type": "file", "file_id": note, "mime_type": "text/plain", "extras": {"name": "terms.txt"}},
        {"type": "audio", "file_id": voice, "mime_type": "audio/wav", "extras": {"name": "note.wav", "seconds": 3.2}},
    )
    session = Session.memory()
    events: list[Event] = []
    model = Sees([])
    await session.record(draft(Message(role="user", content=(text("hear this"), *blocks))))
    context = Context(
        session=session, model=model, blobs=blobs, system=SYSTEM, sampling=Sampling(), emit=events.append, readable=True
    )
    (message,) = (await context.request(())).messages[1:]
    assert message.text == (
        f"hear this[document terms.txt]\n{words}\n[end of terms.txt][recording note.wav, 3 s: the model cannot hear it]"
    )
    assert [event.file_id for event in events if isinstance(event, MediaSubstituted)] == [note, voice]
    await context.request(())
    assert len(events) == 2


@pytest.mark.parametrize(("number", "why"), [(9, "the latest is picture 1"), (0, "there is no picture 0")])
async def test_only_a_picture_that_is_there_is_recalled(number: int, why: str, blobs: BlobStore) -> None:
    context = ToolContext(pictures=(blobs.admit(picture("red")),), blobs=blobs)
    with pytest.raises(ToolError, match=why):
        recall_media(context, number)
    with pytest.raises(ToolError, match="there is no picture in this conversation"):
        recall_media(ToolContext(), 1)


def test_odd_settings_are_refused() -> None:
    for wrong in ({"at": 0.0}, {"at": 2.0}, {"keep_turns": 0}):
        with pytest.raises(ConfigurationError):
            Compaction(**wrong)
    assert "40 words" in render("compact", words=40)


def test_usage_without_numbers_teaches_nothing(blobs: BlobStore) -> None:
    context = Context(
        session=Session.memory(), model=Sees([]), blobs=blobs, system=SYSTEM, sampling=Sampling(),
        emit=lambda event: None, readable=False,
    )  # fmt: skip
    context.used(Usage())
    assert context.history == ()
