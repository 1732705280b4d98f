"""What a hit shows and lets hear: parts and outlines of pictures, spans of sound, and what cannot be shown."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from PIL import Image

from mmagent.errors import InputError
from mmagent.knowledge.extract import Box
from mmagent.knowledge.read.pixels import clip, crop, outline, pixels
from mmagent.settings import Settings


def png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "white").save(file, "PNG")
    return file.getvalue()


def tone(seconds: float) -> bytes:
    """A tone that is as high as it is late: 100 Hz in the first second, 200 in the second one."""
    rate, file = 16_000, io.BytesIO()
    hertz = 100 * (np.arange(int(seconds * rate)) // rate + 1)
    samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(len(hertz)) / rate)
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(rate)
        made.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def test_a_part_is_cut_out() -> None:
    picture = Image.new("RGB", (200, 100), "white")
    picture.paste((0, 0, 255), (50, 20, 100, 60))
    part = crop(picture, (0.25, 0.2, 0.5, 0.6))
    assert part.size == (50, 40) and part.getextrema() == ((0, 0), (0, 0), (255, 255))


@pytest.mark.parametrize(
    "box", [(0.5, 0.5, 0.5, 0.5), (1.0, 1.0, 1.0, 1.0), (-1.0, -1.0, 2.0, 2.0), (0.9, 0.9, 0.1, 0.1)]
)
def test_any_box_gives_some_of_the_picture(box: Box) -> None:
    picture = Image.new("RGB", (30, 20))
    part = crop(picture, box)
    assert 1 <= part.width <= 30 and 1 <= part.height <= 20
    assert outline(picture, box).size == (30, 20)


def test_an_outline_is_drawn_around_and_not_over() -> None:
    picture = Image.new("RGB", (400, 400), "white")
    framed = outline(picture, (0.25, 0.25, 0.5, 0.5))
    assert framed.crop((100, 100, 200, 200)).getextrema() == ((255, 255),) * 3
    red = [framed.getpixel(at) for at in ((99, 150), (150, 99), (200, 150), (150, 200))]
    assert len(set(red)) == 1 and red[0] != (255, 255, 255)
    assert picture.getextrema() == ((255, 255),) * 3


def test_limits_and_kinds() -> None:
    assert pixels(png((30, 20)), "image/png").size == (30, 20)
    with pytest.raises(InputError, match="max_image_pixels is 500"):
        pixels(png((30, 20)), "image/png", limits=Settings(max_image_pixels=500))
    with pytest.raises(InputError, match="nothing is to be seen of text/plain"):
        pixels(b"hello", "text/plain")
    with pytest.raises(InputError, match="damaged PDF"):
        pixels(b"%PDF-1.7", "application/pdf")
    with pytest.raises(InputError, match="no picture of this video"):
        pixels(b"\x1a\x45\xdf\xa3webm", "video/webm")


def test_a_span_of_sound_is_cut_out() -> None:
    with wave.open(io.BytesIO(clip(tone(15), 2.0, 3.0))) as made:
        assert (made.getframerate(), made.getnchannels(), made.getsampwidth()) == (16_000, 1, 2)
        samples = np.frombuffer(made.readframes(made.getnframes()), "<i2")
    assert len(samples) == 16_000 and np.abs(np.fft.rfft(samples)).argmax() == 300
    late = np.frombuffer(clip(tone(15), 13.0, 14.0)[44:], "<i2")  # from a place that it jumps to
    assert len(late) == 16_000 and np.abs(np.fft.rfft(late)).argmax() == 1400


def test_where_there_is_no_sound_it_says_so() -> None:
    with pytest.raises(InputError, match=r"there is no sound from 20 to 21 seconds in it"):
        clip(tone(2), 20, 21)
    with pytest.raises(InputError, match="no sound that can be read"):
        clip(png((3, 3)), 0, 1)
