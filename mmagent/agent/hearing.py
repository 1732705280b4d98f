"""What is said in recordings, for models that cannot hear. It knows transcripts and blocks, no engine and no session.

It is written down once, before the question enters history, and kept with the recording: whoever reads the session
again is shown the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from mmagent.agent.tools.context import Hears
from mmagent.content import Block, MediaBlock, Message
from mmagent.errors import ConfigurationError, InputError, MMAgentError, NotFound
from mmagent.media.limits import check_seconds
from mmagent.settings import settings

if TYPE_CHECKING:
    from mmagent.media import BlobStore
    from mmagent.session import State
    from mmagent.speech import Transcript

SAID = "transcript"
"""In the ``extras`` of a recording: what is said in it, a line with times for each segment; empty: nothing."""
UNCLEAR = "(speech that was not understood)"


async def written_down(question: Message, model: Any, blobs: BlobStore, transcriber: Hears | None) -> Message:
    """The question, with what is said in its recordings where the model cannot hear.

    Args:
        question: An admitted message.
        model: Who will answer.
        blobs: Where its media are.
        transcriber: What listens; None: the speech model of the settings, else nano.

    Raises:
        ConfigurationError: There is no speech model: none is set, and nano is not in this installation.
        LimitError: A recording is longer than its header says, and than ``max_audio_seconds``.
        MediaError, ModelError: It cannot be decoded, or the speech model failed.
    """
    if model.capabilities.audio or not any(map(_unheard, question.content)):
        return question
    ear = listener(transcriber, f"the model {model.name} cannot hear, and ")
    content: list[Block] = []
    for block in question.content:
        if _unheard(block):
            block = await asyncio.to_thread(_with_words, cast("MediaBlock", block), blobs, ear)
        content.append(block)
    return question.model_copy(update={"content": tuple(content)})


def listener(transcriber: Hears | None, why: str = "") -> Hears:
    """What listens: the given one, or the speech model of the settings, else nano; loaded once in this process.

    Raises:
        ConfigurationError: There is none; the message begins with ``why``.
    """
    if transcriber is not None:
        return transcriber
    try:
        return _of_settings(settings().speech_model)
    except (ConfigurationError, NotFound) as error:
        raise ConfigurationError(f"{why}{error}") from error


def at_hand(transcriber: Hears | None) -> Hears | None:
    """`listener`, or None where there is no speech model."""
    try:
        return listener(transcriber)
    except MMAgentError:
        return None


def wants_words(state: State) -> bool:
    """Whether a conversation has recordings of whose words the model may not be shown all."""
    return any(state.compacted_turns or block["type"] == "video" or _unheard(block) for block in state.recordings)


def lines(transcript: Transcript) -> str:
    """What is said, a line for each segment: ``[00:00.0-00:03.2] words``, and the speaker where one is known.

    Speech that was not understood has a line that says so: it must not look as if nobody had spoken.
    """
    said = [(one.t0, one.t1, f"{one.speaker}: {one.text}" if one.speaker else one.text) for one in transcript.segments]
    said += [(one.t0, one.t1, UNCLEAR) for one in transcript.dropped if one.reason == "low confidence"]
    return "\n".join(f"[{_time(t0)}-{_time(t1)}] {' '.join(text.split())}" for t0, t1, text in sorted(said))


def find(recordings: Iterable[MediaBlock], which: str) -> MediaBlock:
    """One of the conversation's recordings.

    Args:
        recordings: All, oldest first.
        which: Its number (1 is the first), its name or label, or the beginning of its file id; empty: the latest.

    Raises:
        InputError: There is none, or not that one; the message lists what there is.
    """
    there: list[MediaBlock] = list(recordings)
    which = which.strip()
    if not there:
        raise InputError("there is no recording in this conversation")
    if not which:
        return there[-1]
    if which.isascii() and which.isdigit() and 0 < int(which[:9]) <= len(there):
        return there[int(which) - 1]
    digest = which.removeprefix("sha256:").rstrip("…")
    for block in there[::-1]:
        extras = block.get("extras", {})
        named = which in (extras.get("name"), extras.get("label"))
        if named or (len(digest) >= 6 and block["file_id"].removeprefix("sha256:").startswith(digest)):
            return block
    names = (f"{number} ({one.get('extras', {}).get('name', 'recording')})" for number, one in enumerate(there, 1))
    raise InputError(f"there is no recording {which[:80]}; there are: {', '.join(names)}")


def _unheard(block: Block) -> bool:
    return block["type"] == "audio" and SAID not in block.get("extras", {})


def _with_words(block: MediaBlock, blobs: BlobStore, ear: Hears) -> MediaBlock:
    extras = block.get("extras", {})
    transcript = ear.transcribe(blobs.get(block["file_id"]))
    check_seconds(transcript.duration, str(extras.get("name", "the recording")), settings(), "recording")
    return {**block, "extras": {**extras, SAID: lines(transcript)}}


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0) * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}:' if hours else ''}{minutes:02}:{rest // 10:02}.{rest % 10}"


@lru_cache(maxsize=1)
def _of_settings(folder: str | None) -> Hears:
    from mmagent.speech import load_transcriber

    return cast("Hears", load_transcriber(folder))
