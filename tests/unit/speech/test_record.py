"""Microphones: blocks as they come, and every way in which there is none. PortAudio is a double."""

from __future__ import annotations

import sys
import threading
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.errors import ConfigurationError, MediaError, MissingExtra
from mmagent.speech.record import BLOCK, Microphone, Recording, _Ring, loudness
from tests.blocking import no_blocking  # noqa: F401 # a fixture


class PortAudio(SimpleNamespace):
    """As much of sounddevice as is used. It hands out samples that count up, then stops or goes on in silence."""

    class PortAudioError(Exception):
        pass

    def __init__(self, blocks: int = 4, rates: tuple[int, ...] = (16_000,), names: tuple[str, ...] = ("Desk",)) -> None:
        self.blocks, self.rates, self.names, self.closed = blocks, rates, names, False

    def query_devices(self, device: Any = None, kind: Any = None) -> Any:
        devices = [{"name": one, "max_input_channels": 1, "default_samplerate": self.rates[-1]} for one in self.names]
        if kind is None:
            return devices
        if not devices or (device is not None and device not in self.names):
            raise (ValueError if devices else self.PortAudioError)("Error querying device -1")
        return devices[0]

    def check_input_settings(self, samplerate: int, **form: Any) -> None:
        if samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def InputStream(self, samplerate: int, callback: Any, **form: Any) -> Any:
        port = self

        class Stream(SimpleNamespace):
            active = True

            def start(self) -> None:
                self.thread = threading.Thread(target=self.run)
                self.thread.start()

            def run(self) -> None:
                for number in range(port.blocks):
                    data = np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.float32).reshape(-1, 1) / 1e5
                    callback(data, BLOCK, None, None)
                self.active = False

            def abort(self, ignore_errors: bool) -> None:
                self.thread.join()

            def close(self, ignore_errors: bool) -> None:
                port.closed = True

        return Stream(samplerate=samplerate)


def plug(monkeypatch: pytest.MonkeyPatch, port: PortAudio) -> PortAudio:
    monkeypatch.setitem(sys.modules, "sounddevice", port)
    return port


async def test_what_was_said_comes_before_the_error_of_a_lost_microphone(
    monkeypatch: pytest.MonkeyPatch,
    no_blocking: list[str],  # noqa: F811
) -> None:
    port = plug(monkeypatch, PortAudio(blocks=4))
    microphone, heard = Microphone(), []
    with pytest.raises(MediaError, match="the microphone was lost; plug it in again"):
        async for block in microphone.blocks():
            heard.append(block)
            assert microphone.level > 0
    assert np.concatenate(heard) == pytest.approx(np.arange(4 * BLOCK) / 1e5)
    assert port.closed and microphone.level == 0


async def test_closing_lets_go_of_the_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    port = plug(monkeypatch, PortAudio())
    async with aclosing(Microphone().blocks()) as blocks:
        assert len(await anext(blocks)) == BLOCK
    assert port.closed


async def test_a_microphone_of_another_rate_is_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, PortAudio(blocks=30, rates=(48_000,)))
    heard = []
    with pytest.raises(MediaError):
        async for block in Microphone().blocks():
            heard.append(block)
    samples = np.concatenate(heard)
    assert 8 * BLOCK <= len(samples) <= 10 * BLOCK
    assert samples[1_000:2_000] == pytest.approx(np.arange(3_000, 6_000, 3) / 1e5, abs=1e-3)


@pytest.mark.parametrize(
    ("port", "device", "message"),
    [
        (PortAudio(names=()), None, "there is no microphone on this machine; plug one in, or give a recording"),
        (PortAudio(), "Wall", "the microphone 'Wall' cannot be used; .* There are: Desk"),
    ],
)
async def test_no_microphone(monkeypatch: pytest.MonkeyPatch, port: PortAudio, device: Any, message: str) -> None:
    plug(monkeypatch, port)
    with pytest.raises(ConfigurationError, match=message):
        await anext(Microphone(device).blocks())


async def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mmagent\[mic\]'"):
        await anext(Microphone().blocks())


async def test_no_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, *rest: Any) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ConfigurationError, match="apt-get install -y libportaudio2") as caught:
        await anext(Microphone().blocks())
    assert "library not found" not in str(caught.value)


@given(st.lists(st.integers(0, 2_000), max_size=12))
@settings(max_examples=30, deadline=None)
async def test_a_recording_is_cut_into_blocks_and_filled_up(sizes: list[int]) -> None:
    whole = np.arange(1, sum(sizes) + 1, dtype=np.float32) / 1e5
    pieces = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    blocks = [block async for block in Recording(pieces).blocks()]
    assert all(len(block) == BLOCK for block in blocks)
    joined = np.concatenate([*blocks, np.zeros(0, np.float32)])
    assert len(joined) - len(whole) < BLOCK
    assert np.array_equal(joined[: len(whole)], whole) and not joined[len(whole) :].any()


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30))
def test_a_ring_gives_the_newest_and_says_what_is_lost(steps: list[tuple[int, bool]]) -> None:
    ring, written, read = _Ring(64), 0, 0
    for size, reads in steps:
        ring.write(np.arange(written, written + size, dtype=np.float32))
        written += size
        if reads:
            samples, lost = ring.read()
            assert samples.tolist() == list(range(read + lost, written))
            assert lost == max(0, written - read - 56)
            read = written


def test_a_meter_goes_from_silence_to_full() -> None:
    assert loudness(np.zeros(BLOCK, np.float32)) == 0
    assert loudness(np.ones(BLOCK, np.float32)) == 1
    assert loudness(np.full(BLOCK, 0.0316, np.float32)) == pytest.approx(0.5, abs=0.01)
