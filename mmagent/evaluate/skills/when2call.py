"""Whether a model calls a tool, asks back or declines, on When2Call's test. It knows the file, not the model.

The set is Ross et al. 2025 (arXiv:2504.18851). A reply with a call counts as a call, words with a question mark at
their end as asking, other words as declining; arguments are not judged.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker, Reply, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.evaluate.skills.bfcl import TOKENS, as_sample, read_rows

FILE = Path("../shared/data/agent_when2call/data/test/when2call_test_llm_judge.jsonl")
KINDS = {"tool_call": "call", "request_for_info": "ask", "cannot_answer": "decline"}
"""The set's names of what is right, and ours."""


def when2call(model: ChatModel, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """The share of right decisions, together and by what would have been right."""
    if not FILE.is_file():
        told(f"skipped: there is no file {FILE}")
        return []
    rows = [row for row in read_rows(FILE) if row["correct_answer"] in KINDS]
    if count is not None:
        rows = random.Random(seed).sample(rows, min(count, len(rows)))
    right: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    wrong = []
    with Asker(model) as ask:
        for number, row in enumerate(rows, 1):
            functions = [json.loads(tool) for tool in row["tools"]]
            reply = replied(ask, as_sample(row["question"], functions), max_tokens=TOKENS)
            kind = KINDS[row["correct_answer"]]
            wanted[kind] += 1
            if decision(reply) == kind:
                right[kind] += 1
            else:
                wrong.append(f"{row['question'][:200]} | {reply.shown} | {kind}")
            if number % 50 == 0:
                told(f"When2Call: {right.total()} of {number}")
    scores = [Score("When2Call: call, ask or decline", right.total(), len(rows), wrong=tuple(wrong[:8]))]
    return scores + [Score(f"When2Call: {kind}", right[kind], wanted[kind]) for kind in KINDS.values() if wanted[kind]]


def decision(reply: Reply) -> str:
    """What a reply does: ``call``, ``ask`` or ``decline``; nothing where there is none."""
    if reply.empty:
        return ""
    if reply.calls:
        return "call"
    return "ask" if reply.text.rstrip(" \"'").endswith("?") else "decline"
