"""A voice note reaches any model: as it is where the model hears, else as words with times, and never in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mmagent import Audio, Quoted, tool
from mmagent.agent import Agent, hearing
from mmagent.agent.hearing import SAID, find, lines
from mmagent.chat.protocol import Capabilities
from mmagent.cli.assemble import Choices
from mmagent.cli.run import Decisions, run
from mmagent.content import MediaBlock
from mmagent.errors import ConfigurationError, InputError, LimitError, ModelError
from mmagent.events import MediaSubstituted, ToolFinished
from mmagent.media import BlobStore
from mmagent.media.sound import wav
from mmagent.session import Session
from mmagent.speech import Dropped, Segment, Transcript
from mmagent.testing import ScriptedModel, call

SHOP = Path(__file__).parents[3] / "examples" / "shop"
WORDS = "[00:00.0-00:01.5] Can I return it?\n[00:02.0-00:03.2] My order is A-48213."
SHOWN = f"[recording the recording, 1 s, what is said in it:]\n{WORDS}"


class Ear:
    """A speech model that plays a script, and notes how often it listens."""

    def __init__(self, *segments: Segment, duration: float = 3.5) -> None:
        self.transcript = Transcript(segments, duration, sum(one.t1 - one.t0 for one in segments))
        self.heard: list[bytes] = []

    def transcribe(self, source: bytes) -> Transcript:
        self.heard.append(source)
        return self.transcript


def ear() -> Ear:
    return Ear(Segment(0.0, 1.5, "Can I return it?"), Segment(2.0, 3.2, " My order\n is A-48213. "))


def deaf(steps: Sequence[object], **more: object) -> ScriptedModel:
    return ScriptedModel(steps, capabilities=Capabilities(context_length=32_000, **more))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_speech_model_is_loaded() -> Iterator[None]:
    hearing._of_settings.cache_clear()
    yield
    hearing._of_settings.cache_clear()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def note() -> Audio:
    return Audio(wav(np.zeros(16_000, np.float32)))


def substituted(events: Sequence[object]) -> list[str]:
    return [event.instead for event in events if isinstance(event, MediaSubstituted)]


async def test_a_model_that_cannot_hear_is_shown_words_with_times(blobs: BlobStore, note: Audio) -> None:
    model, listens = deaf(["Yes.", "Really."]), ear()
    agent = Agent(model, builtins=False, blobs=blobs, transcriber=listens)
    result = await agent.arun(note, "Please help.")
    assert model.requests[0].messages[1].text == SHOWN + "Please help."
    assert substituted(result.events) == [SHOWN]
    assert "untrusted" in agent.session.state.labels
    assert agent.session.state.own_words == ["Please help."], "what a recording says is nobody's own words"
    again = await agent.arun("Sure?")
    assert not substituted(again.events)
    assert len(listens.heard) == 1
    assert SHOWN in model.requests[1].messages[1].text


async def test_a_model_that_hears_is_given_the_recording(blobs: BlobStore, note: Audio) -> None:
    model = deaf(["Yes."], audio=True)
    result = await Agent(model, builtins=False, blobs=blobs).arun(note)
    assert [block["type"] for block in model.requests[0].messages[1].content] == ["audio"]
    assert not substituted(result.events)


async def test_another_process_shows_the_same_without_listening(blobs: BlobStore, note: Audio, tmp_path: Path) -> None:
    first, second = deaf(["Yes."]), deaf(["Really."])
    for model, listens in ((first, ear()), (second, None)):
        session = Session.open("s", tmp_path / "s.db")
        agent = Agent(model, builtins=False, blobs=blobs, session=session, transcriber=listens)
        await (agent.arun(note) if listens else agent.arun("Sure?"))
        session.close()
    assert second.requests[0].messages[1] == first.requests[0].messages[1]


async def test_without_a_speech_model_nothing_enters_history(blobs: BlobStore, note: Audio, no_nano: None) -> None:
    agent = Agent(deaf(["Yes."]), builtins=False, blobs=blobs)
    with pytest.raises(
        ConfigurationError, match=r"^the model scripted cannot hear, and .*MMAGENT_SPEECH_MODEL"
    ) as error:
        await agent.arun(note)
    assert "\n" not in str(error.value)
    assert agent.session.messages == ()


@pytest.mark.parametrize(
    ("problem", "kind"), [(ModelError("the speech model failed; try again"), ModelError), (None, LimitError)]
)
async def test_what_cannot_be_written_down_does_not_enter_history(
    problem: Exception | None, kind: type[Exception], blobs: BlobStore, note: Audio
) -> None:
    """An hour in a file whose header says a second is too long as well."""

    class Fails(Ear):
        def transcribe(self, source: bytes) -> Transcript:
            if problem:
                raise problem
            return Transcript((), 3600.0, 0.0)

    agent = Agent(deaf(["Yes."]), builtins=False, blobs=blobs, transcriber=Fails())
    with pytest.raises(kind):
        await agent.arun(note)
    assert agent.session.messages == ()


async def test_a_note_in_which_nobody_speaks_says_so(blobs: BlobStore, note: Audio) -> None:
    model = deaf(["Pardon?"])
    await Agent(model, builtins=False, blobs=blobs, transcriber=Ear()).arun(note)
    assert model.requests[0].messages[1].text == "[recording the recording, 1 s: nobody speaks in it]"


async def test_what_is_said_can_be_quoted(blobs: BlobStore, note: Audio) -> None:
    @tool(effect="read")
    def lookup_order(order_id: Quoted) -> str:
        """Look an order up."""
        return "delivered"

    steps = [call("lookup_order", order_id="A-48213"), call("lookup_order", order_id="A-99999"), "It came."]
    agent = Agent(deaf(steps), [lookup_order], builtins=False, blobs=blobs, transcriber=ear())
    result = await agent.arun(note)
    errors = [event.error for event in result.events if isinstance(event, ToolFinished)]
    assert errors[0] is None
    assert "'A-99999' stands nowhere in the conversation" in str(errors[1])


async def test_the_model_can_have_a_recording_written_down_that_it_was_given(blobs: BlobStore, note: Audio) -> None:
    """It is told of the tool only while there is a recording whose words it has not been shown."""
    model = deaf([call("transcribe"), "Yes.", "Bye."], audio=True)
    agent = Agent(model, builtins=False, blobs=blobs, transcriber=ear())
    result = await agent.arun(note)
    assert [one.name for one in model.requests[0].tools] == ["transcribe"]
    (finished,) = [event for event in result.events if isinstance(event, ToolFinished)]
    assert finished.error is None
    assert "".join(block["text"] for block in finished.content if block["type"] == "text") == WORDS
    assert finished.data["segments"][0] == {"t0": 0.0, "t1": 1.5, "text": "Can I return it?"}
    told = deaf(["Yes."])
    await Agent(told, builtins=False, blobs=blobs, transcriber=ear()).arun(note)
    assert told.requests[0].tools == ()


async def test_a_model_that_takes_over_and_cannot_hear_is_told_that_there_is_a_recording(
    blobs: BlobStore, note: Audio
) -> None:
    session = Session.memory()
    await Agent(deaf(["Yes."], audio=True), builtins=False, blobs=blobs, session=session).arun(note)
    model = deaf([call("transcribe", recording="1"), "Ah."])
    result = await Agent(model, builtins=False, blobs=blobs, session=session, transcriber=ear()).arun("And?")
    assert "the model cannot hear it]" in model.requests[0].messages[1].text
    assert model.requests[1].messages[-1].text == WORDS
    assert result.text == "Ah."


def test_recordings_are_found_by_number_name_and_hash() -> None:
    def block(name: str, digest: str) -> MediaBlock:
        return {"type": "audio", "file_id": "sha256:" + digest * 64, "extras": {"name": name}}

    there = [block("a.wav", "a"), block("b.ogg", "b"), block("a.wav", "c")]
    for which, index in {"": 2, "1": 0, "3": 2, "a.wav": 2, "b.ogg": 1, "sha256:bbbbbbb…": 1, "cccccc": 2}.items():
        assert find(there, which) is there[index], which
    for wrong in ("4", "0", "c.wav", "sha256:d", "aa"):
        with pytest.raises(InputError, match=r"there is no recording .*; there are: 1 \(a.wav\), 2 \(b.ogg\)"):
            find(there, wrong)
    with pytest.raises(InputError, match="there is no recording in this conversation"):
        find([], "")


def test_times_are_written_as_people_read_them() -> None:
    segments = (Segment(0.04, 59.96, "one"), Segment(61, 62.25, "two", speaker="Ann"), Segment(3661, 3662, "three"))
    assert lines(Transcript(segments, 4_000.0, 70.0)).splitlines() == [
        "[00:00.0-01:00.0] one",
        "[01:01.0-01:02.2] Ann: two",
        "[1:01:01.0-1:01:02.0] three",
    ]


def test_speech_that_was_not_understood_does_not_look_like_silence() -> None:
    said = (Segment(0.0, 1.0, "Yes."), Segment(4.0, 5.0, "No."))
    dropped = (Dropped(1.5, 3.0, "low confidence"), Dropped(3.0, 3.5, "silence"))
    assert lines(Transcript(said, 5.0, 3.5, dropped=dropped)).splitlines() == [
        "[00:00.0-00:01.0] Yes.",
        "[00:01.5-00:03.0] (speech that was not understood)",
        "[00:04.0-00:05.0] No.",
    ]


def test_the_spoken_question_of_the_shop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``mmagent run -a voice_note.wav`` asks what is said in it."""
    said = Segment(0.0, 4.9, "Can I still return the lamp? My order number is A-48213.")
    listens = Ear(said, duration=4.951)
    model = deaf([call("lookup_order", order_id="A-48213"), "Yes, until 14 days after it came."])
    monkeypatch.setattr("mmagent.speech.load_transcriber", lambda *_: listens, raising=False)
    monkeypatch.setattr("mmagent.chat.factory.load_model", lambda *_: model)
    note = SHOP / "voice_note.wav"
    assert run(None, [note], Choices(tools=(SHOP / "tools.py",)), Decisions(), as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"].startswith("Yes") and answer["calls"][0]["data"] is None
    assert "12" in answer["calls"][0]["result"]
    assert listens.heard == [note.read_bytes()]
    assert run(None, [note], Choices(), Decisions(), quiet=False) != 0  # the script is over
    told = capsys.readouterr().err
    assert "recording voice_note.wav" in told and "it was given [recording voice_note.wav, 5 s, what is said" in told


def test_the_voice_note_is_small_and_as_engines_want_it() -> None:
    import soundfile

    info = soundfile.info(SHOP / "voice_note.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    assert (SHOP / "voice_note.wav").stat().st_size < 200_000
    assert SAID == "transcript", "journals have it"
