"""Whether a model says what is beyond it, and names what to use instead. It knows questions and pictures, no agent.

Beside that stand questions that it can answer, of which it must not say so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from mmagent.chat.local import LocalModel
from mmagent.evaluate.ask import Asker, Reply, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.evaluate.skills.shop import SHOWN
from mmagent.train.draw.pictures import COLORS, PRODUCTS
from mmagent.train.sample import Message, Sample, Shown, system, user
from mmagent.train.shop import phrases
from mmagent.train.shop.beyond import TEXT_KINDS, is_beyond, question
from mmagent.train.shop.cases import draw_picture
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.shop.pictures import shown
from mmagent.train.sources.beyond import SMALL_TALK, WITHOUT_DOCUMENTS, picture

BAR = 0.90
COUNT = 200
DATA = Path("../shared/data")
FOLDERS = ("photos_coral", "photos_misc_qa", "video_qwen_demo")
"""Photographs and films of the open world."""
REDRAWS = 100
"""Of a question that was put before."""
FRAMES = 4
"""Of a film, how many pictures are asked about."""
_PICTURES, _FILMS = (".jpg", ".png", ".bmp"), (".mp4",)
_NOT_PHOTOS = ("logo", "radar", "10095", "10149")
"""Parts of names of files that are charts and drawings."""


def beyond(model: LocalModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """Questions in unseen wordings; half are about pictures: real ones where there are, else generated ones."""
    count = COUNT if count is None else count
    rng = random.Random(f"beyond {seed}")
    photos = real_photos(DATA)
    asked = draw(rng, count, photos)
    inside = [("not beyond", within(rng)) for _ in range(max(1, count // 4))]
    right: dict[str, list[bool]] = {}
    wrong: dict[str, list[str]] = {}
    with Asker(model) as ask:
        for index, (kind, sample) in enumerate(asked + inside):
            reply = replied(ask, sample, max_tokens=96)
            good = is_right(reply, kind)
            right.setdefault(kind, []).append(good)
            if not good:
                wrong.setdefault(kind, []).append(f"{sample.messages[-1]['content'][-1]['text']!r}: {reply.shown!r}")
            if index % 50 == 49:
                told(f"beyond it: {index + 1} of {len(asked) + len(inside)}")
    marks = [good for kind, goods in right.items() if kind != "not beyond" for good in goods]
    lines = [line for kind, found in wrong.items() if kind != "not beyond" for line in found]
    about = sum(kind == "photo" for kind, _ in asked)
    note = f"{min(about, len(photos))} photographs" if photos else "pictures are generated, none is a photograph"
    scores = [Score("beyond it", sum(marks), len(marks), BAR, wrong=tuple(lines[:SHOWN]), note=note)]
    for kind, goods in sorted(right.items()):
        name, bar = (
            ("beyond it: not said of what it can", BAR) if kind == "not beyond" else (f"beyond it: {kind}", None)
        )
        scores.append(Score(name, sum(goods), len(goods), bar, wrong=tuple(wrong.get(kind, ())[:SHOWN])))
    return scores


def is_right(reply: Reply, kind: str) -> bool:
    """Whether a question of a kind got what it should; of ``not beyond``, anything said or called but that it is."""
    if kind == "not beyond":
        return not reply.empty and not is_beyond(reply.text)
    return is_beyond(reply.text, kind)


def draw(rng: random.Random, count: int, photos: Sequence[Callable[[], Image.Image]]) -> list[tuple[str, Sample]]:
    """Questions with their kinds; no wording comes twice, but for one about several pictures."""
    asked: list[tuple[str, Sample]] = []
    seen: set[tuple[int, str]] = set()
    for index in range(count):
        kind, image, place = TEXT_KINDS[index // 2 % len(TEXT_KINDS)], None, -1
        if index % 2:
            kind, place = "photo", index // 2 % len(photos) if photos else index
            image = Shown(photos[place]() if photos else picture(rng))
        for _ in range(REDRAWS):
            text = question(rng, kind, held_out=True)
            if (place, text.lower()) not in seen:
                break
        seen.add((place, text.lower()))
        asked.append((kind, conversation(rng, text, image)))
    return asked


def conversation(rng: random.Random, text: str, image: Shown | None) -> Sample:
    """One question, half of the time to an assistant that has the built-in tools."""
    tools = list(WITHOUT_DOCUMENTS) if rng.random() < 0.5 else []
    messages: list[Message] = [system(SYSTEM)] if tools else []
    return Sample([*messages, user(text, images=1 if image else 0)], tools, [image] if image else [])


def within(rng: random.Random) -> Sample:
    """A question that it can answer: small talk, or what a drawn product is."""
    if rng.random() < 0.5:
        return conversation(rng, phrases.phrase(rng, phrases.SENTENCES[rng.choice(sorted(SMALL_TALK))], True), None)
    name = f"{rng.choice(sorted(COLORS))} {rng.choice(PRODUCTS)}"
    return conversation(rng, "What is in the picture?", shown(rng, draw_picture(rng, name)))


def real_photos(data: Path) -> list[Callable[[], Image.Image]]:
    """What opens each photograph and some frames of each film; empty where there are none."""
    paths = sorted(path for folder in FOLDERS for path in (data / folder).rglob("*") if path.is_file())
    opened: list[Callable[[], Image.Image]] = []
    for path in paths:
        if path.suffix in _PICTURES and not any(part in path.name for part in _NOT_PHOTOS):
            opened.append(lambda path=path: Image.open(path).convert("RGB"))  # type: ignore[misc]
        elif path.suffix in _FILMS:
            opened += [lambda image=image: image for image in frames(path)]  # type: ignore[misc]
    return opened


def frames(path: Path) -> list[Image.Image]:
    """Some frames of a film, spread over its key frames."""
    import av

    with av.open(str(path)) as film:
        film.streams.video[0].codec_context.skip_frame = "NONKEY"
        every: list[Image.Image] = [frame.to_image() for frame in film.decode(video=0)]  # type: ignore[no-untyped-call]
    return every[:: max(1, len(every) // FRAMES)][:FRAMES]
