"""Recordings enter as tokens of Whisper's encoder, videos as pictures with times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from mmagent.errors import ConfigurationError
from mmagent.model.configuration import audio_token_count
from mmagent.model.video import NUM_FRAMES, clock, sample_frames

RATE = 16_000


@pytest.fixture(scope="module")
def made(make: Any) -> Any:
    return make(hears=True)


def sound(seconds: float, pitch: float = 440) -> np.ndarray[Any, Any]:
    return np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def batch_of(processor: Any, *rows: tuple[str, list[Any]]) -> dict[str, torch.Tensor]:
    recordings = [recording for _, own in rows for recording in own]
    texts = [text.replace("@", "<|audio|>") for text, _ in rows]
    processor.tokenizer.padding_side = "left"
    return dict(processor(text=texts, audio=recordings, sampling_rate=RATE, padding=True, return_tensors="pt"))


@torch.no_grad()
def test_the_tower_is_whispers_encoder(made: Any) -> None:
    model, processor = made
    shape = {**model.config.audio_config.to_dict(), "decoder_layers": 1, "decoder_attention_heads": 2}
    theirs = WhisperModel(WhisperConfig(**shape)).encoder.eval()
    theirs.load_state_dict(model.audio_tower.encoder.state_dict())
    batch = batch_of(processor, ("@", [sound(0.6)]))
    extractor = WhisperFeatureExtractor(chunk_length=1)
    mel = extractor(sound(0.6), sampling_rate=RATE, return_tensors="pt").input_features
    assert torch.allclose(batch["input_features"], mel)
    features = model.get_audio_features(batch["input_features"], batch["input_features_mask"])
    assert torch.allclose(features.last_hidden_state, theirs(mel).last_hidden_state, atol=1e-6)
    assert [tuple(tokens.shape) for tokens in features.pooler_output] == [(8, 48)]  # 60 frames, 30 positions, 8 by four


@torch.no_grad()
def test_a_batch_equals_its_rows_and_features_serve_as_well_as_spectrograms(made: Any) -> None:
    model, processor = made
    rows = [("listen @", [sound(0.3)]), ("@ and a longer one: @", [sound(1.0, 220), sound(2.3, 880)])]
    batch = batch_of(processor, *rows)
    together = model(**batch).logits
    for row, mask, logits in zip(rows, batch["attention_mask"].bool(), together, strict=True):
        alone = batch_of(processor, row)
        assert torch.allclose(logits[mask], model(**alone).logits[0], atol=1e-5)
        features = model.get_audio_features(alone.pop("input_features"), alone.pop("input_features_mask"))
        assert torch.allclose(logits[mask], model(**alone, mm_encoder_outputs={"audio": features}).logits[0], atol=1e-5)


def test_generate_hears_also_with_beams_and_beside_pictures(made: Any) -> None:
    model, processor = made
    picture = Image.new("RGB", (9, 9), "red")
    settings: dict[str, Any] = {"max_new_tokens": 3, "num_beams": 2, "do_sample": False, "eos_token_id": -1}
    texts = ["<|audio|>see<|image|><|audio|>", "<|audio|> only"]
    media: dict[str, Any] = {"images": [picture], "audio": [sound(0.5), sound(0.9, 220), sound(0.2, 880)]}
    processor.tokenizer.padding_side = "left"
    batch = processor(text=texts, **media, sampling_rate=RATE, padding=True, return_tensors="pt")
    got = model.generate(**batch, **settings)[:, -3:]
    first = processor(
        text=texts[:1], images=[picture], audio=media["audio"][:2], sampling_rate=RATE, return_tensors="pt"
    )
    second = processor(text=texts[1:], audio=media["audio"][2:], sampling_rate=RATE, return_tensors="pt")
    for row, alone in zip(got, (first, second), strict=True):
        assert torch.equal(row, model.generate(**alone, **settings)[0, -3:])
    silent = model.generate(**{**second, "input_features": torch.zeros_like(second["input_features"])}, **settings)
    assert silent.shape[1] == second["input_ids"].shape[1] + 3


def test_gradients_reach_the_audio_tower(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, ("@ what?", [sound(0.5)]))
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert model.audio_tower.encoder.conv1.weight.grad.abs().max() > 0
    assert model.audio_tower.connector.up.weight.grad.abs().max() > 0
    model.zero_grad()


@given(samples=st.integers(1, 3 * RATE))
def test_tokens_are_known_before_anything_runs(made: Any, samples: int) -> None:
    _, processor = made
    batch = batch_of(processor, ("@", [np.zeros(samples, np.float32)]))
    told = processor._get_num_multimodal_tokens(audio_lengths=[samples]).num_audio_tokens
    frames = batch["input_features_mask"].sum(-1).tolist()
    assert told == [batch["input_ids"].shape[1]] == [sum(audio_token_count(number, 4) for number in frames)]
    assert len(frames) == -(-samples // RATE), "windows of one second each; nothing is cut off"


def test_a_started_token_counts_whole() -> None:
    counts = [audio_token_count(frames, 4) for frames in (0, 1, 8, 9, 16, 17, 100)]  # two frames make a position
    assert counts == [0, 1, 1, 2, 2, 3, 13]


def test_a_network_without_ears_says_so(make: Any) -> None:
    model, processor = make()
    assert not [name for name in model.state_dict() if "audio" in name]
    with pytest.raises(ValueError, match="no audio tower"):
        processor(text="hello", audio=[sound(0.1)], sampling_rate=RATE)
    with pytest.raises(ConfigurationError, match="no audio tower"):
        model.get_audio_features(torch.zeros(1, 80, 100))


def test_wrong_sound_is_refused_in_words(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, ("@", [sound(0.5)]))
    with pytest.raises(ValueError, match=r"7 audio tokens but the recordings make 13"):
        model(**{**batch, "input_features_mask": torch.ones_like(batch["input_features_mask"])})
    with pytest.raises(ValueError, match="sampling rate of 16000"):
        processor(text="<|audio|>", audio=[sound(0.1)], sampling_rate=8000)
    with pytest.raises(ValueError, match="one channel"):
        processor(text="<|audio|>", audio=[np.zeros((2, 100), np.float32)], sampling_rate=RATE)


def test_the_chat_template_places_recordings(made: Any) -> None:
    _, processor = made
    messages = [{"role": "user", "content": [{"type": "audio", "audio": sound(0.2)}, {"type": "text", "text": "Hm?"}]}]
    made_text = processor.apply_chat_template(messages, tokenize=False)
    assert made_text == "<|system|><|end|><|user|><|audio|>Hm?<|end|>"


def test_a_video_is_pictures_with_times(make: Any) -> None:
    model, processor = make()
    shades = [Image.new("RGB", (40, 30), (index, 0, 0)) for index in range(71)]
    messages = [
        {"role": "user", "content": [{"type": "video", "video": shades, "fps": 10.0}, {"type": "text", "text": "Hm?"}]}
    ]
    text = processor.apply_chat_template(messages, tokenize=False)
    times = [f"0:0{second}.0" for second in range(8)]
    assert text == f"<|system|><|end|><|user|>{'<|image|>'.join(times)}<|image|>Hm?<|end|>"
    batch = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 8 * model.config.image_seq_length
    shown = processor.image_processor(images=shades[::10], return_tensors="pt")["pixel_values"]
    assert torch.equal(batch["pixel_values"], shown)
    with torch.no_grad():
        assert model(**batch).logits.isfinite().all()
    assert messages[0]["content"][0]["type"] == "video", "the caller's messages are left alone"


@given(count=st.integers(1, 300), fps=st.floats(0.1, 240))
def test_frames_are_few_in_order_and_span_the_video(count: int, fps: float) -> None:
    video = np.broadcast_to(np.arange(count, dtype=np.uint16).astype(np.uint8)[:, None, None, None], (count, 2, 2, 3))
    frames = sample_frames(video, fps)
    times = [time for time, _ in frames]
    assert len(frames) == min(NUM_FRAMES, count) and times == sorted(set(times))
    assert times[0] == 0 and (count == 1 or times[-1] == pytest.approx((count - 1) / fps))
    assert all(frame.getpixel((0, 0))[0] == round(time * fps) % 256 for time, frame in frames)


def test_times_and_refusals_of_videos(make: Any) -> None:
    assert [clock(0), clock(59.97), clock(62.5), clock(3600)] == ["0:00.0", "1:00.0", "1:02.5", "60:00.0"]
    _, processor = make()
    for video, words in (({"video": "film.mp4"}, "decoded frames"), ({"video": [], "fps": 1}, "no frames")):
        with pytest.raises(ValueError, match=words):
            processor.apply_chat_template([{"role": "user", "content": [{"type": "video", **video}]}])
    with pytest.raises(ValueError, match="fps is 0"):
        sample_frames([Image.new("RGB", (2, 2))], 0)
    with pytest.raises(ValueError, match="video blocks"):
        processor(text="hello", videos=[[Image.new("RGB", (2, 2))]])
