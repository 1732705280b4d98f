"""Recordings travel to a provider whose model hears: WAV and MP3 as they are, anything else as WAV."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from mmagent.chat.langchain import LangChainModel, wire_messages
from mmagent.chat.protocol import ModelRequest
from mmagent.content import Audio, Message, text
from mmagent.errors import ModelError
from mmagent.media import BlobStore
from mmagent.media.sound import waveform


def request(form: str, folder: Path) -> ModelRequest:
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(np.arange(32_000) / 9), 32_000, format=form)
    blobs = BlobStore(folder)
    block = blobs.admit(Audio(file.getvalue()))
    return ModelRequest((Message(role="user", content=(text("hear this"), block)),), blobs)


def model(**profile: Any) -> LangChainModel:
    return LangChainModel(GenericFakeChatModel(messages=iter([AIMessage("ok")]), profile=profile))


@pytest.mark.parametrize(("form", "sent"), [("WAV", "wav"), ("MP3", "mpeg"), ("OGG", "wav"), ("FLAC", "wav")])
def test_recordings_travel_in_a_form_that_providers_take(form: str, sent: str, tmp_path: Path) -> None:
    asked = request(form, tmp_path)
    (message,) = wire_messages(asked)
    words, sound = message.content
    assert words == {"type": "text", "text": "hear this"}
    assert isinstance(sound, dict) and (sound["type"], sound["mime_type"]) == ("audio", f"audio/{sent}")
    data = base64.b64decode(sound["base64"])
    assert sum(map(len, waveform(data))) == pytest.approx(16_000, abs=1_500)
    original = asked.blobs.get(asked.messages[0].media[0]["file_id"])
    assert (data == original) is (form in ("WAV", "MP3"))


def test_only_a_model_whose_profile_says_so_hears(tmp_path: Path) -> None:
    assert model(audio_inputs=True).capabilities.audio
    assert not model().capabilities.audio
    asked = request("WAV", tmp_path)
    assert 32 <= model(audio_inputs=True).count_tokens(asked) < 60
    with pytest.raises(ModelError, match="takes no recordings; choose a model that does"):
        model()._wire_messages(asked)
