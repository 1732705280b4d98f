"""Samples as training sees them, in one picture, and what each source costs and gives. It knows tokens, no network.

Pictures are squeezed as the network has them, marks are boxes, and the words that the loss counts have another colour.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from mmagent.errors import ConfigurationError, MMAgentError
from mmagent.train.encode import Encoder, Example
from mmagent.train.packing import IGNORED
from mmagent.train.recipe import Recipe, Shape
from mmagent.train.sample import Sample, Shown
from mmagent.train.stream import Mixture

Told: TypeAlias = Callable[[str], None]
Color: TypeAlias = tuple[int, int, int]
Run: TypeAlias = tuple[str, bool]
"""Some text, and whether the loss counts it."""
MEASURED = 12
"""Samples of each source that the table is made of, at least."""
VOCABULARY_SAMPLES = 300
"""Where no model has the run's vocabulary yet, it is learnt from so many: counts of tokens are a little high."""

CARD, PICTURE, GAP, MARGIN = 760, 240, 12, 10
"""Pixels: a sample's width, a picture's side, between samples, and inside one."""
LINES = 40
"""Lines of text of a sample; of longer ones the middle is left out."""
COUNTED, GIVEN, FAINT, BOX = (16, 84, 180), (110, 116, 122), (150, 155, 160), (214, 40, 40)


@dataclass(frozen=True)
class Drawn:
    """A sample, and what it came to."""

    source: str
    sample: Sample
    example: Example
    seconds: float

    @property
    def tokens(self) -> int:
        """Of the conversation, pictures included."""
        return len(self.example.row.ids)

    @property
    def counted(self) -> int:
        """Of these, what the loss counts."""
        return sum(label != IGNORED for label in self.example.row.labels)


@dataclass(frozen=True)
class Preview:
    """What was drawn, by source."""

    shares: dict[str, float]
    """Of the samples, by the recipe's weights."""
    drawn: dict[str, list[Drawn]]
    pictured: int

    def table(self) -> str:
        """A line for each source; means over its samples."""
        rows = [("source", "share", "tokens", "counted", "of all counted", "pictures", "ms")]
        counted = {name: _mean([one.counted for one in found]) for name, found in self.drawn.items()}
        total = sum(self.shares[name] * counted[name] for name in counted) or 1.0
        for name, found in self.drawn.items():
            pictures = _mean([len(one.sample.pictures) for one in found])
            tokens, seconds = _mean([one.tokens for one in found]), _mean([one.seconds for one in found])
            gives = self.shares[name] * counted[name] / total
            figures = (f"{self.shares[name]:.0%}", f"{tokens:.0f}", f"{counted[name]:.0f}", f"{gives:.0%}")
            rows.append((name, *figures, f"{pictures:.1f}", f"{1000 * seconds:.1f}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in rows)


def preview(
    recipe: Recipe, out: Path, *, count: int = 12, seed: int = 0, runs: Path = Path("runs"), told: Told = lambda _: None
) -> Preview:
    """Draw samples of each source of a recipe, and ``count`` of them into one picture.

    Args:
        recipe: Whose data is looked at.
        out: The picture, a PNG.
        count: Samples in it; sources take turns, those of more weight first.
        seed: Other samples; none of them is one that training draws.
        runs: Where the folders of runs lie, whose vocabulary is used where there is one.
        told: Is told what else is worth knowing.

    Raises:
        ConfigurationError: A source is not there, or the picture cannot be written.
        NotFound: The files of a source are not there.
    """
    encoder = make_encoder(recipe, runs, told)
    each = max(MEASURED, -(-count // len(recipe.data)))
    drawn: dict[str, list[Drawn]] = {}
    weights: dict[str, float] = {}
    for index, one in enumerate(recipe.data):
        alone = recipe.model_copy(update={"data": [one.model_copy(update={"from_step": 0, "until_step": None})]})
        mixture, rng = Mixture(alone), random.Random(f"preview {seed} {index}")
        mixture.draw(rng, 0)  # what is made once is made now
        drawn.setdefault(one.source, []).extend(_draw(mixture, rng, encoder) for _ in range(each))
        weights[one.source] = weights.get(one.source, 0.0) + one.weight
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    order = sorted(drawn, key=lambda name: -shares[name])
    shown = [drawn[name][turn] for turn in range(each) for name in order][:count]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(shown, encoder).save(out, "PNG")
    except OSError as error:
        raise ConfigurationError(f"the picture {out} cannot be written: {error}; choose another with --out") from error
    return Preview({name: shares[name] for name in order}, {name: drawn[name] for name in order}, len(shown))


def make_encoder(recipe: Recipe, runs: Path, told: Told) -> Encoder:
    """The encoder of a run: of its own model or the one it starts from where one is there, else an approximate one."""
    from transformers import AutoConfig, AutoTokenizer

    import mmagent.model  # noqa: F401 - makes our own networks known to the Auto classes
    from mmagent.train.network import build_tokenizer, find

    shape, places = recipe.shape, [recipe.name, *([recipe.start] if recipe.start else [])]
    for place in places:
        try:
            folder = find(place, runs)
            tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
        except (MMAgentError, OSError, ValueError):
            continue
        if config.model_type == "mmagent" and shape in (None, _shape_of(config, len(tokenizer), shape)):
            side = config.vision_config.image_size
            return Encoder(tokenizer, config.image_seq_length, side, side // config.vision_config.patch_size)
    shape = shape or Shape.model_validate({})
    shape = shape.model_copy(update={"vocabulary_samples": min(VOCABULARY_SAMPLES, shape.vocabulary_samples)})
    if recipe.stage == "lora":
        told(f"{recipe.start} may be of another family: this shows the rows; its own template and tokens differ")
    count = shape.vocabulary_samples
    told(f"no model of mmagent's own is there for {recipe.name}: tokens are counted by a vocabulary of {count} samples")
    grid = shape.vision.image_side // 2 ** (len(shape.vision.stem_channels) + 1)
    tokenizer = build_tokenizer(recipe, shape, lambda line: None)
    return Encoder(tokenizer, (grid // shape.downsample) ** 2, shape.vision.image_side, grid)


def _shape_of(config: Any, words: int, shape: Shape | None) -> Shape | None:
    """``shape`` if a model's pictures and vocabulary are of its sizes."""
    if shape is None:
        return None
    same = (config.vision_config.image_size, config.downsample) == (shape.vision.image_side, shape.downsample)
    return shape if same and words == shape.vocab_size else None


def _draw(mixture: Mixture, rng: random.Random, encoder: Encoder) -> Drawn:
    began = time.perf_counter()
    source, sample = mixture.draw(rng, 0)
    seconds = time.perf_counter() - began
    return Drawn(source, sample, encoder.encode(sample, source), seconds)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def runs_of(example: Example, tokenizer: Any) -> list[Run]:
    """A conversation as text, cut where the loss begins and ends to count; a picture is one ``<|image|>``."""
    placeholder = tokenizer.convert_tokens_to_ids("<|image|>")
    found: list[tuple[list[int], bool]] = []
    before = None
    for token, label in zip(example.row.ids, example.row.labels, strict=True):
        if token == placeholder == before:
            continue
        before, counts = token, label != IGNORED
        if not found or found[-1][1] != counts:
            found.append(([], counts))
        found[-1][0].append(token)
    return [(tokenizer.decode(ids), counts) for ids, counts in found]


def contact_sheet(shown: Sequence[Drawn], encoder: Encoder) -> Image.Image:
    """Samples in two columns, each below the shorter one."""
    heights = [GAP, GAP]
    placed = []
    for number, one in enumerate(shown, 1):
        card = _card(one, encoder, number)
        column = heights.index(min(heights))
        placed.append((card, column, heights[column]))
        heights[column] += card.height + GAP
    columns = min(2, len(placed))
    sheet = Image.new("RGB", (columns * (CARD + GAP) + GAP, max(heights)), (228, 231, 234))
    for card, column, top in placed:
        sheet.paste(card, (GAP + column * (CARD + GAP), top))
    return sheet


def _card(one: Drawn, encoder: Encoder, number: int) -> Image.Image:
    pictures = [_squeezed(shown, encoder.side) for shown in one.sample.pictures]
    left = MARGIN + (PICTURE + MARGIN if pictures else 0)
    lines = wrapped(runs_of(one.example, encoder.tokenizer), int((CARD - left - MARGIN) / _letter()))
    lines = lines if len(lines) <= LINES else [*lines[: LINES // 4], [(f"… {len(lines) - LINES + 1} lines …", False)],
                                               *lines[-(LINES - LINES // 4 - 1) :]]  # fmt: skip
    head, step = 30, 17
    height = head + max(len(lines) * step, len(pictures) * (PICTURE + MARGIN)) + MARGIN
    card = Image.new("RGB", (CARD, height), "white")
    pen = ImageDraw.Draw(card)
    many = f"{len(pictures)} picture{'s' if len(pictures) != 1 else ''}"
    title = f"{number}  {one.source}   {one.tokens} tokens, {one.counted} counted, {many}, {1000 * one.seconds:.1f} ms"
    pen.text((MARGIN, 8), title, fill=(20, 24, 28), font=_font(13))
    for index, picture in enumerate(pictures):
        card.paste(picture, (MARGIN, head + index * (PICTURE + MARGIN)))
    for row, line in enumerate(lines):
        x: float = left
        for text, counts in line:
            pen.text((x, head + row * step), text, fill=COUNTED if counts else GIVEN, font=_font(13))
            x += _letter() * len(text)
    return card


def _squeezed(shown: Shown, side: int) -> Image.Image:
    """A picture as the network has it, enlarged or reduced to be looked at, and its marks."""
    seen = shown.image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    seen = seen.resize((PICTURE, PICTURE), Image.Resampling.LANCZOS if side > PICTURE else Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(seen)
    across, down = PICTURE / shown.image.width, PICTURE / shown.image.height
    for mark in shown.marks:
        box = mark.box[0] * across, mark.box[1] * down, mark.box[2] * across, mark.box[3] * down
        if box[2] > box[0] and box[3] > box[1]:
            pen.rectangle(box, outline=BOX)
        if len(mark.name) > 1:
            pen.text((box[0] + 2, box[1] + 1), mark.name, fill=BOX, font=_font(10))
    return seen


def wrapped(runs: Sequence[Run], width: int) -> list[list[Run]]:
    """Lines of at most ``width`` characters; a new line begins at each role, too."""
    lines: list[list[Run]] = [[]]
    room = width
    for text, counts in runs:
        text = text.replace("<|", "\n<|").replace("\n<|end|>", "<|end|>").replace("|>\n<|image", "|><|image")
        for index, part in enumerate(text.split("\n")):
            if index and lines[-1]:
                lines.append([])
                room = width
            while part:
                if not room:
                    lines.append([])
                    room = width
                lines[-1].append((part[:room], counts))
                part, room = part[room:], room - min(room, len(part))
    return lines


def _font(size: int) -> Any:
    """A font of one width where the machine has one, for text is set by counting."""
    for name in ("DejaVuSansMono.ttf", "LiberationMono-Regular.ttf", "Menlo.ttc", "consola.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _letter() -> float:
    """The width of the widest usual letter at the size of the text."""
    return float(_font(13).getlength("m"))
