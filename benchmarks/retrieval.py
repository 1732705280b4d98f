"""Does a store find what answers a question, and read what people have? Real documents, all-MiniLM-L6-v2.

- XQuAD English: 925 questions, 180 paragraphs; the paragraph that a question was asked about is relevant.
- XQuAD Chinese, where all-MiniLM knows next to nothing: hybrid search must not fall behind words alone.
- Banking: what 97 customers have in mind (200 to 680 words each), and the documents of 698 that their cases need.
- docling's test documents: each is taken in or refused with a reason; what was read holds the words that docling reads.

Documents count as found by their best passage. Bars are given with the figures; a missed one is exit code 1. Prints one
JSON line. Speeds are in `benchmarks.retrieval_speed`.

    python -m benchmarks.retrieval            # some minutes
    python -m benchmarks.retrieval --quick    # a fifth of the articles and questions, no banking
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from benchmarks.peers.machine import OtherLoad, describe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.evaluate.retrieval import Question
    from mmagent.knowledge import Knowledge
    from mmagent.knowledge.embed import Embedder
    from mmagent.knowledge.update import Text

DATA = Path(__file__).parents[2] / "shared/data"
QUICK_ARTICLES = 7
Mode = Literal["hybrid", "dense", "lexical"]
Bars = dict[str, tuple[float, str]]
"""Name to the value and the bar it has to reach, e.g. ``(0.98, ">= 0.95")``."""


class Remembering:
    """An embedder that embeds nothing twice: three modes ask the same questions."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder, self._known = embedder, dict[str, Any]()

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)  # what a store asks of some embedders only

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known |= zip(new, self._embedder.embed(new), strict=True)
        return np.stack([self._known[text] for text in texts])


def xquad(language: str, articles: int | None = None) -> tuple[list[Text], list[Question]]:
    """Paragraphs, each a passage, and their questions."""
    from mmagent.evaluate.retrieval import Question
    from mmagent.knowledge.update import Text

    texts, questions = [], []
    held = json.loads((DATA / f"text_xquad/xquad.{language}.json").read_text("utf-8"))["data"][:articles]
    for article in held:
        for number, paragraph in enumerate(article["paragraphs"]):
            uri = f"{article['title']}/{number}"
            texts.append(Text(uri, paragraph["context"], article["title"].replace("_", " "), whole=True))
            for asked in paragraph["qas"]:
                questions.append(Question(asked["question"], frozenset({uri}), asked["answers"][0]["text"]))
    return texts, questions


def banking() -> tuple[dict[str, str], list[Question]]:
    """Documents in Markdown by name, and what customers have in mind."""
    from mmagent.evaluate.retrieval import Question

    place = DATA / "agent_tau2/banking_knowledge"
    documents = [json.loads(file.read_text("utf-8")) for file in sorted((place / "documents").glob("*.json"))]
    files = {f"{held['id']}.md": f"# {held['title']}\n\n{held['content']}" for held in documents}
    tasks = [json.loads(file.read_text("utf-8")) for file in sorted((place / "tasks").glob("*.json"))]
    questions = [
        Question(task["user_scenario"]["instructions"], frozenset(f"{name}.md" for name in task["required_documents"]))
        for task in tasks
        if task["required_documents"]
    ]
    return files, questions


def modes(knowledge: Knowledge, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """The figures of each way of searching."""
    from mmagent.evaluate.retrieval import evaluate

    return {mode: evaluate(knowledge, questions, mode=mode).figures for mode in get_args(Mode)}


def quality(quick: bool, embedder: Embedder, bars: Bars) -> dict[str, Any]:
    """Figures of the three searches on the collections of questions."""
    from mmagent.knowledge import Knowledge

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for language in ("en", "zh"):
            texts, questions = xquad(language, QUICK_ARTICLES if quick else None)
            with Knowledge(Path(folder, language), embedder=embedder) as knowledge:
                knowledge.add_texts(texts)
                found[f"xquad {language}"] = {"questions": len(questions), **modes(knowledge, questions)}
        if not quick:
            files, questions = banking()
            documents = Path(folder, "documents")
            documents.mkdir()
            for name, text in files.items():
                (documents / name).write_text(text, encoding="utf-8")
            with Knowledge(Path(folder, "banking"), embedder=embedder) as knowledge:
                knowledge.add(documents)
                found["banking"] = {"questions": len(questions), **modes(knowledge, questions)}
    for name, held in found.items():
        ours, dense, lexical = held["hybrid"], held["dense"], held["lexical"]
        best = max(dense["nDCG@10"], lexical["nDCG@10"])
        slack = 0.005 if name == "xquad zh" else 0.0  # there is nothing to win from vectors of another language
        bars[f"{name}: hybrid nDCG@10, ahead of either alone"] = (ours["nDCG@10"], f">= {best - slack:.4f}")
    bars["xquad en: recall@5"] = (found["xquad en"]["hybrid"]["recall@5"], ">= 0.95")
    return found


def docling_documents() -> list[Path]:
    """The sources, without what explains them."""
    files = [file for file in sorted((DATA / "docs_docling").rglob("*")) if file.is_file()]
    apart = {"LICENSE", "SOURCE.txt"}
    return [
        file
        for file in files
        if "groundtruth" not in file.parts
        and file.name not in apart
        and (file.name != "README.md" or "md" in file.parts)
    ]


def expected(file: Path) -> str | None:
    """The Markdown that docling makes of a file, where it is told."""
    place = file.parents[1] / "groundtruth"
    for name in (f"{file.name}.md", f"{file.stem}.md"):
        if (place / name).is_file():
            return (place / name).read_text("utf-8", "replace")
    return None


def words(text: str) -> Counter[str]:
    """Letters and digits, lower case, without mark-up: comments, tags, entities and links' addresses are none."""
    text = re.sub(r"<!--.*?-->|<[^>]*>|&\w+;|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    return Counter(re.findall(r"[^\W_]+", text.replace("\\_", "_").casefold()))


def word_recall(text: str, wanted: str) -> float | None:
    """Share of the wanted words, each as often as it is wanted, that a text has; None where none is wanted."""
    there, needed = words(text), words(wanted)
    total = sum(needed.values())
    return sum((there & needed).values()) / total if total else None


def documents(quick: bool, embedder: Embedder, bars: Bars) -> dict[str, Any]:
    """What becomes of each of docling's documents."""
    from mmagent.knowledge import Knowledge

    files = docling_documents()
    files = [file for file in files if file.suffix not in (".pdf", ".tiff", ".webp", ".png")] if quick else files
    recalls: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, Knowledge(Path(folder, "store"), embedder=embedder) as knowledge:
        began = time.perf_counter()
        report = knowledge.add(*files)
        seconds = time.perf_counter() - began
        assets = {Path(asset.path): asset for asset in knowledge.assets()}
        for file in files:
            wanted, asset = expected(file), assets.get(file.resolve())
            if wanted is not None and asset is not None:
                read = " ".join(f"{unit.title} {unit.text}" for unit in knowledge.get(asset.uri))
                recall = word_recall(read, wanted)
                if recall is not None:
                    recalls[str(file.relative_to(DATA / "docs_docling"))] = round(recall, 4)
        lost = [str(file) for file in files if file.resolve() not in assets and not _skipped(file, report.skipped)]
        wrong = knowledge.verify()
    ordered = sorted(recalls.values())
    bars["documents neither taken in nor refused"] = (len(lost), "<= 0")
    bars["documents: median word recall"] = (ordered[len(ordered) // 2] if ordered else 0.0, ">= 0.95")
    return {
        "documents": len(files),
        "taken in": len(assets),
        "refused": dict(report.skipped),
        "notes": len(report.notes),
        "compared": len(recalls),
        "mean word recall": sum(ordered) / max(1, len(ordered)),
        "lowest": dict(sorted(recalls.items(), key=lambda item: item[1])[:8]),
        "by kind": {kind: round(sum(held) / len(held), 4) for kind, held in _by_kind(recalls)},
        "problems": wrong,
        "seconds": round(seconds, 2),
    }


def _skipped(file: Path, skipped: Sequence[tuple[str, str]]) -> bool:
    return any(uri.endswith(file.name) for uri, _ in skipped)


def _by_kind(recalls: dict[str, float]) -> Iterator[tuple[str, list[float]]]:
    for kind in sorted({name.split("/")[0] for name in recalls}):
        yield kind, [value for name, value in recalls.items() if name.startswith(f"{kind}/")]


def missed(bars: Bars) -> list[str]:
    """The bars that were not reached."""
    names = []
    for name, (value, bar) in bars.items():
        sign, limit = bar.split()
        if not (value >= float(limit) if sign == ">=" else value <= float(limit)):
            names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("quality", "documents"))
    options = parser.parse_args()
    from mmagent.knowledge.embed.minilm import MiniLM

    embedder, bars, load = Remembering(MiniLM()), Bars(), OtherLoad([])
    report: dict[str, Any] = {"benchmark": "retrieval", "quick": options.quick, "machine": describe()}
    if options.only != "documents":
        report["quality"] = quality(options.quick, embedder, bars)
    if options.only != "quality":
        report["documents"] = documents(options.quick, embedder, bars)
    report |= {"bars": bars, "missed": missed(bars), "others took": round(load.share(), 3)}
    print(json.dumps(report, ensure_ascii=False))
    sys.exit(bool(report["missed"]))


if __name__ == "__main__":
    main()
