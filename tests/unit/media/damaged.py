"""Decodes damaged files until something breaks: ``python damaged.py COUNT``. A process of its own, since it may crash.

Prints one line of JSON: how many were heard, how many refused, and by how many MiB the process grew.
"""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from mmagent.content import Audio, Video
from mmagent.errors import MediaError
from mmagent.media import BlobStore
from mmagent.media.sound import RATE, waveform
from mmagent.settings import Settings

SECONDS = 2
SOUND = (0.3 * np.sin(np.arange(SECONDS * RATE) * 0.2)).astype(np.float32)
SMALL = Settings(max_audio_bytes=10**6, max_video_bytes=10**6)


def files() -> dict[str, bytes]:
    """Two seconds of sound in every container that is taken in."""
    made = {}
    for form, subtype in (
        ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "MS_ADPCM"), ("AIFF", "PCM_24"), ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None),
    ):  # fmt: skip
        file = io.BytesIO()
        soundfile.write(file, np.stack([SOUND, SOUND], axis=1), RATE, format=form, subtype=subtype)
        made[f"{form} {subtype}"] = file.getvalue()
    for form, codec, pictures in (
        ("ipod", "aac", False), ("webm", "libopus", False), ("mp4", "aac", True), ("mov", "aac", True),
        ("matroska", "flac", True),
    ):  # fmt: skip
        made[form] = container(form, codec, pictures)
    return made


def container(form: str, codec: str, pictures: bool) -> bytes:
    """A container with sound, and with a few pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as opened:
        out: Any = opened
        picture = out.add_stream("mpeg4", rate=5) if pictures else None
        sound = out.add_stream(codec, rate=48_000, layout="mono")
        if picture is not None:
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
            for _ in range(3):
                out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
            out.mux(picture.encode())
        resampler: Any = av.AudioResampler(sound.format, "mono", 48_000, frame_size=960 if codec == "libopus" else 1024)
        frame: Any = av.AudioFrame.from_ndarray(SOUND[None], format="flt", layout="mono")
        frame.sample_rate, at = RATE, 0
        for fitting in [*resampler.resample(frame), *resampler.resample(None)]:
            fitting.pts, at = at, at + fitting.samples
            out.mux(sound.encode(fitting))
        out.mux(sound.encode())
    return file.getvalue()


def damaged(data: bytes, random: random.Random) -> bytes:
    """The file with bits flipped, numbers forged, and parts cut off, doubled or shuffled."""
    bad = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 4, 16])):
        at = random.randrange(min(len(bad), 200) if random.random() < 0.6 else len(bad))
        match random.randrange(6):
            case 0:
                bad[at] ^= 1 << random.randrange(8)
            case 1:
                bad[at : at + 4] = random.choice([b"\xff" * 4, b"\0" * 4, b"\x7f" + b"\xff" * 3, b"\x80\0\0\0"])
            case 2:
                bad[at:] = bad[at : at + random.randrange(1, len(bad))]
            case 3:
                end = at + random.randrange(64)
                bad[at:at] = bad[at:end]
            case 4:
                del bad[at : at + random.randrange(64)]
            case _:
                bad[at : at + 8] = random.randbytes(8)
        bad = bad or bytearray(b"\0")
    return bytes(bad)


def look(data: bytes, folder: Path) -> bool:
    """Whether the file was heard. Anything else than samples in range or a typed error ends the program."""
    for kind in (Audio, Video):
        try:
            BlobStore(folder).admit(kind(data), SMALL)
        except MediaError as error:
            assert "\n" not in str(error)
    try:
        for piece in waveform(data, "it", max_seconds=60):
            assert piece.dtype == np.float32 and piece.ndim == 1 and np.isfinite(piece).all()
            assert np.abs(piece).max() <= 1
        return True
    except MediaError as error:
        assert str(error).startswith("it ") and "\n" not in str(error)
        return False


def memory() -> int:
    """The most that the process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2)


def main(count: int) -> None:
    """Look at so many files."""
    whole, heard, dice = files(), 0, random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in whole.items():
            assert look(data, Path(folder)), name
        before = memory()
        for number in range(count):
            name, data = dice.choice(list(whole.items()))
            bad = damaged(data, dice)
            try:
                heard += look(bad, Path(folder))
            except BaseException:
                print(f"file {number}, a {name}", file=sys.stderr)
                raise
    print(json.dumps({"heard": heard, "refused": count - heard, "grown": memory() - before}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
