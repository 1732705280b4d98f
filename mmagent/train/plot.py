"""Learning curves of runs as one SVG: losses and shares right over tokens. It knows ``metrics.jsonl`` only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.sax.saxutils import escape

from mmagent.errors import ConfigurationError, NotFound

Point: TypeAlias = tuple[float, float]
"""Tokens, and a figure."""
RIGHT = "right "
"""Figures of checks begin with it; what follows is a source, or ``characters``."""
LOSSES = ("loss", "contrastive", "marks", "gaze")
"""What a run is shown by: the first of these that it has."""
SMOOTH = 0.5
"""Share of the running mean that a point keeps."""

_COLORS = (
    "#1668b3", "#d1611b", "#2c8a3d", "#b3261e", "#7646a8", "#8a5a3b",
    "#c2408f", "#5f6b76", "#8f8a12", "#128a99", "#36406b", "#d99a00",
)  # fmt: skip
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 300, 64, 210, 34, 44


@dataclass(frozen=True)
class Line:
    """A line of a picture."""

    label: str
    points: Sequence[Point]
    color: str
    dash: str = ""
    raw: Sequence[Point] = ()
    """What was smoothed, shown faint behind it."""


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; where a run went on from an earlier step, its later lines count.

    Raises:
        NotFound: There is no such file.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise NotFound(f"there is no {path}; give the folder of a run, e.g. runs/nano")
    kept: dict[bool, list[dict[str, Any]]] = {True: [], False: []}  # checks, and steps
    for found in lines(path):
        same = kept[any(key.startswith(RIGHT) for key in found)]
        while same and same[-1]["step"] >= found["step"]:
            same.pop()
        same.append(found)
    return sorted(kept[True] + kept[False], key=lambda found: float(found["step"]))


def draw(folders: Sequence[Path], out: Path) -> Path:
    """Write the curves of one or several runs into ``out``.

    Raises:
        NotFound: A folder is of no run.
        ConfigurationError: The file cannot be written.
    """
    runs = {_name(folder, folders): read_metrics(folder) for folder in folders}
    part = out.with_name(out.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(curves(runs), encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written ({error.strerror}); choose another file") from error
    return out


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The SVG of runs, by name."""
    losses, shares = _losses(runs), _shares(runs)
    right = max((place for line in losses + shares for place, _ in line.points), default=0) or 1.0
    panels = [_panel("loss", losses, 0, right), _panel("share right, on fresh samples", shares, 1, right, top=1.0)]
    height = 2 * _HEIGHT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>'
    )
    return "\n".join([head, *panels, "</svg>", ""])


def series(lines: Iterable[Mapping[str, Any]], key: str) -> list[Point]:
    """A figure over the tokens learnt from."""
    return [(float(one["tokens"]), float(one[key])) for one in lines if key in one]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """A running mean that is not drawn to its first value."""
    mean, weight, result = 0.0, 0.0, []
    for place, value in points:
        mean, weight = SMOOTH * mean + (1 - SMOOTH) * value, SMOOTH * weight + 1 - SMOOTH
        result.append((place, mean / weight))
    return result


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, figures that are numbers; one that was cut off, or is of something else, is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            figures = {name: value for name, value in json.loads(line).items() if _is_number(value)}
        except (ValueError, AttributeError, RecursionError):
            continue
        if {"step", "tokens"} <= figures.keys():
            found.append(figures)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _name(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's name; its whole path where another has the same."""
    name = folder.resolve().name
    return name if sum(other.resolve().name == name for other in folders) == 1 else str(folder)


def _losses(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Line]:
    made = []
    for index, (run, lines) in enumerate(runs.items()):
        key = next((key for key in LOSSES if series(lines, key)), LOSSES[0])
        points = series(lines, key)
        label = f"{run}: {key}" if len(runs) > 1 or key != LOSSES[0] else key
        made.append(Line(label, smoothed(points), _COLORS[index % len(_COLORS)], raw=points))
    return made


def _shares(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Line]:
    """A colour for each source, a kind of line for each run."""
    keys = sorted({key for lines in runs.values() for one in lines for key in one if key.startswith(RIGHT)})
    made = []
    for number, (run, lines) in enumerate(runs.items()):
        for index, key in enumerate(keys):
            if points := series(lines, key):
                name = key.removeprefix(RIGHT)
                label = f"{run}: {name}" if len(runs) > 1 else name
                made.append(Line(label, points, _COLORS[index % len(_COLORS)], _DASHES[number % len(_DASHES)]))
    return made


def _panel(title: str, lines: Sequence[Line], row: int, right: float, top: float | None = None) -> str:
    low, high = 0.0, top or _highest(lines)
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(point: Point) -> str:
        x = _LEFT + point[0] / right * plot_width
        y = _TOP + (1 - (min(max(point[1], low), high) - low) / (high - low)) * plot_height
        return f"{x:.1f},{y:.1f}"

    parts = [f'<g transform="translate(0 {row * _HEIGHT})">', _text(_LEFT, _TOP - 12, title, weight=600)]
    for value in ticks(low, high):
        y = place((0, value)).split(",")[1]
        parts.append(f'<path d="M{_LEFT} {y}H{_LEFT + plot_width}" stroke="#e3e6e9"/>')
        parts.append(_text(_LEFT - 8, float(y) + 4, f"{value:.0%}" if top else f"{value:g}", anchor="end"))
    for value in ticks(0, right):
        x = float(place((value, low)).split(",")[0])
        parts.append(_text(x, _HEIGHT - _BOTTOM + 18, count(value), anchor="middle"))
    parts.append(_text(_LEFT + plot_width / 2, _HEIGHT - 8, "tokens", anchor="middle"))
    parts += [f'<path d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_LEFT + plot_width}" fill="none" stroke="#5f6b76"/>']
    for line in lines:
        faint = _polyline(map(place, line.raw), line.color, opacity=0.25)
        parts += [faint, _polyline(map(place, line.points), line.color, dash=line.dash, dots=top is not None)]
    return "\n".join([*parts, *_legend(lines, share=top is not None), "</g>"])


def _highest(lines: Sequence[Line]) -> float:
    """Of the figures that are shown; a few first ones may lie above."""
    values = sorted(value for line in lines for _, value in line.points)
    return values[min(len(values) - 1, int(0.98 * len(values)))] * 1.05 or 1.0 if values else 1.0


def _legend(lines: Sequence[Line], *, share: bool) -> list[str]:
    """Names with last values, the highest first."""
    x, step = _WIDTH - _RIGHT + 14, min(17.0, (_HEIGHT - _TOP) / max(1, len(lines)))
    parts = []
    ranked = sorted((line for line in lines if line.points), key=lambda line: -line.points[-1][1])
    for index, line in enumerate(ranked):
        y, last = _TOP + 8 + index * step, line.points[-1][1]
        parts.append(_polyline([f"{x},{y - 4:.1f}", f"{x + 18},{y - 4:.1f}"], line.color, dash=line.dash))
        parts.append(_text(x + 24, y, f"{line.label} {f'{last:.0%}' if share else f'{last:.3g}'}"))
    return parts


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values between two, ends included where they are round."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def count(value: float) -> str:
    """A number of tokens in few characters."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _polyline(places: Iterable[str], color: str, *, dash: str = "", opacity: float = 1.0, dots: bool = False) -> str:
    found = list(places)
    if not found:
        return ""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    faint = f' opacity="{opacity}"' if opacity < 1 else ""
    points = " ".join(found)
    made = f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8"{dashed}{faint}/>'
    marks = (f'<circle cx="{x}" cy="{y}" r="2.2" fill="{color}"/>' for x, y in (one.split(",") for one in found))
    return made + ("".join(marks) if dots else "")


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: int = 400) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
