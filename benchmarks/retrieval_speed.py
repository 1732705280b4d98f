"""What searching and taking in cost, embedding excluded, beside plain Chroma, numpy and langchain-chroma.

50,000 passages of about 90 words, put together from sentences of XQuAD, of banking documents and of 12,000 dialogues;
vectors of length 1 in clusters (384 numbers, seeded). Questions are XQuAD's, in turn for all systems, two threads,
after a warm-up; medians. Ingest: the same texts and vectors for all; and all-MiniLM-L6-v2 through a store beside the
same model on its own. Prints one JSON line; a missed bar is exit code 1.

    python -m benchmarks.retrieval_speed            # some minutes
    python -m benchmarks.retrieval_speed --quick    # 5,000 passages; its bars are for 50,000, so none is checked

langchain-chroma (benchmarks/requirements.txt) is imported by a process of its own: ``--peers-python`` or PYTHONPATH.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.machine import OtherLoad, describe
from benchmarks.retrieval import DATA, Bars, banking, missed, xquad

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSION = 384
PASSAGE_WORDS = 90
CLUSTERS = 500
SHARES = {"10 %": 10, "2 %": 50, "0.1 %": 1000}
"""Of the passages, by what a filter asks for: each so many-th."""
INGESTED = 10_000
EMBEDDED = 1024
K = 10
QUESTIONS = 200


class Given:
    """Vectors that are known beforehand."""

    fingerprint = "benchmarks.retrieval_speed"

    def __init__(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._known = dict(zip(texts, vectors, strict=True))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        # A store embeds "title, line end, text"; here titles are numbers, so that no two texts are the same.
        return np.stack([self._known[text.partition("\n")[2] or text] for text in texts])


def passages(count: int) -> list[str]:
    """So many texts of about `PASSAGE_WORDS` words, no two the same."""
    from mmagent.knowledge.chunk import sentences

    rng = random.Random(0)
    read = [text.text for text in xquad("en")[0]] + list(banking()[0].values())
    written = [text[a:b] for text in read for a, b in sentences(text)]
    with gzip.open(DATA / "dialogues_sgd/train.jsonl.gz", "rt", encoding="utf-8") as lines:
        spoken = [turn["text"] for line in lines for turn in json.loads(line)["turns"] if turn.get("text")]
    made: dict[str, None] = {}
    while len(made) < count:
        source, parts = rng.choice((written, spoken)), list[str]()
        while sum(part.count(" ") + 1 for part in parts) < PASSAGE_WORDS:
            parts.append(" ".join(rng.choice(source).split()))
        made[" ".join(parts)] = None
    return list(made)


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Vectors of length 1 around common centres, ``[N, D]``."""
    import numpy as np

    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIMENSION), np.float32)
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, CLUSTERS, count)] + rng.standard_normal((count, DIMENSION), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def times(tasks: dict[str, Callable[[int], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each task, all in turn in every round: ``p50`` and ``p95``."""
    held: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(-10, rounds):
        for name, task in tasks.items():
            began = time.perf_counter()
            task(number % rounds)
            if number >= 0:
                held[name].append((time.perf_counter() - began) * 1e3)
    return {
        name: {"p50": round(statistics.median(all_), 3), "p95": round(sorted(all_)[int(0.95 * len(all_))], 3)}
        for name, all_ in held.items()
    }


def latency(count: int, folder: Path, bars: Bars) -> dict[str, Any]:
    """Searches of a store of so many passages, and of plain Chroma and numpy over the same vectors."""
    import numpy as np

    from benchmarks.peers.chroma_search import Chroma
    from mmagent.knowledge import Knowledge
    from mmagent.knowledge.update import Text

    texts, vectors = passages(count), clustered(count, 1)
    questions = [question.query for question in xquad("en")[1]]
    random.Random(0).shuffle(questions)
    asked = clustered(len(questions), 2)
    metadata = [{name: row % step for name, step in SHARES.items()} for row in range(count)]
    embedder = Given([*texts, *questions], np.concatenate([vectors, asked]))
    peer = Chroma(folder / "chroma", vectors, metadata)
    with Knowledge(folder / "store", embedder=embedder) as knowledge:
        began = time.perf_counter()
        knowledge.add_texts(
            Text(f"t{row}", text, str(row), metadata[row], whole=True) for row, text in enumerate(texts)
        )
        added = time.perf_counter() - began
        began = time.perf_counter()
        knowledge.search(questions[0], K)
        first = time.perf_counter() - began

        def ours(mode: Any, where: dict[str, Any] | None = None) -> Callable[[int], object]:
            return lambda number: knowledge.search(questions[number], K, mode=mode, where=where)

        def theirs(where: dict[str, Any] | None = None) -> Callable[[int], object]:
            return lambda number: peer.search(asked[number], K, where)

        def nearest(number: int) -> object:
            scores = vectors @ asked[number]
            best = np.argpartition(-scores, K)[:K]
            return best[np.argsort(-scores[best])]

        tasks = {
            "hybrid": ours("hybrid"),
            "dense": ours("dense"),
            "lexical": ours("lexical"),
            "plain chroma": theirs(),
            "numpy float32": nearest,
        }
        for name in SHARES:
            tasks[f"hybrid, filter {name}"] = ours("hybrid", {name: 0})
            tasks[f"plain chroma, filter {name}"] = theirs({name: 0})
        unfiltered = {name: task for name, task in tasks.items() if "filter" not in name}
        new = times(unfiltered, QUESTIONS)[
            "hybrid"
        ]  # it is the first to be asked, and reads what it knows of each word
        plain = times(unfiltered, QUESTIONS)
        filtered = times({name: task for name, task in tasks.items() if "filter" in name}, QUESTIONS // 10)
        held = 0
        for number in range(20):
            held += all(hit.metadata["2 %"] == 0 for hit in knowledge.search(questions[number], K, where={"2 %": 0}))
        stats = knowledge.stats()
    bars["hybrid p50, ms"] = (plain["hybrid"]["p50"], "<= 5")
    for name in SHARES:
        bars[f"hybrid, filter {name} p50, ms"] = (filtered[f"hybrid, filter {name}"]["p50"], "<= 10")
    bars["searches whose filter did not hold"] = (20 - held, "<= 0")
    return {
        "passages": count,
        "search": stats.search,
        "bytes a passage": round(stats.bytes / count),
        "ms": {"hybrid, questions never asked before": new} | plain | filtered,
        "first search, s": round(first, 2),
        "texts a second": round(count / added),
        "plain chroma, vectors a second": round(count / peer.seconds),
    }


def ingest(count: int, folder: Path, python: str, bars: Bars) -> dict[str, Any]:
    """Texts with given vectors into a store and through langchain-chroma, in turn, three times each; medians."""
    import numpy as np

    from mmagent.knowledge import Knowledge
    from mmagent.knowledge.update import Text

    texts, vectors = passages(count), clustered(count, 1)
    embedder = Given(texts, vectors)
    ours, theirs = list[float](), list[float]()
    for number in range(3):
        place = folder / str(number)
        place.mkdir()
        with Knowledge(place / "store", embedder=embedder) as knowledge:
            began = time.perf_counter()
            knowledge.add_texts(Text(f"t{row}", text, str(row), whole=True) for row, text in enumerate(texts))
            ours.append(count / (time.perf_counter() - began))
            assert knowledge.stats().units == count
        (place / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        np.save(place / "vectors.npy", vectors)
        peer = Path(__file__).parent / "peers/langchain_chroma_ingest.py"
        done = subprocess.run([python, str(peer), str(place)], capture_output=True, text=True)
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1:]
            return {"texts": count, "mmagent, texts a second": round(statistics.median(ours)), "langchain-chroma": why}
        theirs.append(json.loads(done.stdout.splitlines()[-1])["a second"])
    ratio = statistics.median(ours) / statistics.median(theirs)
    bars["durable texts a second, times langchain-chroma's"] = (round(ratio, 2), ">= 2")
    return {
        "texts": count,
        "mmagent, texts a second": round(statistics.median(ours)),
        "langchain-chroma, texts a second": round(statistics.median(theirs)),
    }


def embedding(count: int, folder: Path, bars: Bars) -> dict[str, Any]:
    """Texts through a store with all-MiniLM, beside the model on its own, in turn; the best of each."""
    from mmagent.knowledge import Knowledge
    from mmagent.knowledge.embed.minilm import MiniLM
    from mmagent.knowledge.update import Text

    texts, model = passages(count), MiniLM()
    model.embed(texts[:8])
    alone, through = list[float](), list[float]()
    for number in range(2):
        began = time.perf_counter()
        model.embed([f"{row}\n{text}" for row, text in enumerate(texts)])
        alone.append(time.perf_counter() - began)
        with Knowledge(folder / f"embedded-{number}", embedder=model) as knowledge:
            began = time.perf_counter()
            knowledge.add_texts(Text(f"t{row}", text, str(row), whole=True) for row, text in enumerate(texts))
            through.append(time.perf_counter() - began)
    share = min(alone) / min(through)
    bars["ingest, share of the embedder's own speed"] = (round(share, 3), ">= 0.9")
    return {
        "texts": count,
        "the model alone, texts a second": round(count / min(alone), 1),
        "through a store, texts a second": round(count / min(through), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--passages", type=int, default=50_000)
    parser.add_argument("--peers-python", default=sys.executable)
    options = parser.parse_args()
    bars, load, quick = Bars(), OtherLoad([]), options.quick
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        report: dict[str, Any] = {"benchmark": "retrieval_speed", "quick": quick, "machine": describe()}
        report["latency"] = latency(5_000 if quick else options.passages, folder, bars)
        report["ingest"] = ingest(1_000 if quick else INGESTED, folder, options.peers_python, bars)
        report["embedding"] = embedding(64 if quick else EMBEDDED, folder, bars)
    report |= {"bars": bars, "missed": [] if quick else missed(bars), "others took": round(load.share(), 3)}
    print(json.dumps(report, ensure_ascii=False))
    sys.exit(bool(report["missed"]))


if __name__ == "__main__":
    main()
