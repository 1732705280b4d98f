"""langchain-chroma with texts and vectors that are given: texts a second until all are on the disk.

In a process of its own, as it may be in another environment: reads ``texts.json`` and ``vectors.npy`` from
a folder and prints a JSON line.

    python benchmarks/peers/langchain_chroma_ingest.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(folder: Path) -> None:
    """Adds the texts in groups of 1,000, as an application that reads documents would."""
    import numpy as np
    from chromadb.config import Settings
    from langchain_chroma import Chroma  # type: ignore[import-not-found, unused-ignore]
    from langchain_core.embeddings import Embeddings

    texts = json.loads((folder / "texts.json").read_text("utf-8"))
    vectors = np.load(folder / "vectors.npy").tolist()
    known = dict(zip(texts, vectors, strict=True))

    class Given(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [known[text] for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return known[text]  # type: ignore[no-any-return]

    store = Chroma(
        "peer",
        Given(),
        persist_directory=str(folder / "langchain"),
        client_settings=Settings(anonymized_telemetry=False),
    )
    began = time.perf_counter()
    for at in range(0, len(texts), 1000):
        store.add_texts(texts[at : at + 1000], ids=[str(number) for number in range(at, min(at + 1000, len(texts)))])
    seconds = time.perf_counter() - began
    print(json.dumps({"texts": len(texts), "seconds": seconds, "a second": len(texts) / seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
