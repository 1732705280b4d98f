"""Samples for networks that are not ours, through their own chat template and processor. It knows no run.

What is learnt from is what the engine gives the same model at run time: its conversation, its prompt, its pictures.
Which tokens are the assistant's is found out by rendering the conversation up to each of its messages, without and with
it; no template needs to say so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional as F

from mmagent.chat.conversation import conversation
from mmagent.chat.profiles import profile_of
from mmagent.chat.protocol import ModelRequest, ToolSpec
from mmagent.content import Message
from mmagent.engine.pictures import limit_picture_tokens
from mmagent.engine.prompt import Picture, build_prompt
from mmagent.errors import InputError
from mmagent.train.encode import Batch, Encoder, Example
from mmagent.train.lesson import Answers, Lesson
from mmagent.train.packing import IGNORED, Row, pack
from mmagent.train.recipe import Losses
from mmagent.train.sample import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmagent.engine.load import Loaded
    from mmagent.media import BlobStore

log = logging.getLogger(__name__)

CONTEXT = 6
"""Tokens before an answer by which it is known, the mark of its role among them."""


@dataclass
class Rendered(Example):
    """An encoded sample with all that the processor made of it."""

    inputs: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class RenderedBatch(Batch):
    """Examples that are held in memory at once; each goes through the network alone, so nothing is padded."""

    inputs: list[dict[str, torch.Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class _Turn:
    """One message of the assistant's as the template writes it."""

    begin: int
    """Where it begins in the conversation's tokens, pictures as one placeholder each."""
    before: list[int]
    """The last tokens before it."""
    ids: list[int]
    dropped: int
    """Tokens at the end of the prompt that do not stand before it, such as the mark that opens a thought."""


class TemplateEncoder(Encoder):
    """Samples to examples, through a model's own template.

    Args:
        loaded: The model; its processor's pictures are bounded as they are at run time.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._profile = profile_of(loaded.model.config, loaded.processor or loaded.tokenizer)
        if loaded.processor is not None:
            limit_picture_tokens(loaded.model, loaded.processor, self._profile.picture_tokens)
        ends = getattr(loaded.model.generation_config, "eos_token_id", None)
        self._ends = {loaded.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self._loaded = replace(loaded, model=None)  # workers need no weights
        self.tokenizer = loaded.tokenizer
        self.end = self._usual_end()

    def encode(self, sample: Sample, source: str = "") -> Rendered:
        """Ids, labels that are `IGNORED` outside the assistant's messages, and the processor's inputs.

        Raises:
            ModelError: The template refuses the conversation, or the model takes no pictures.
            InputError: The assistant says nothing in it.
        """
        sees = self._loaded.processor is not None
        made = conversation(_request(sample), self._profile, self._loaded.name, sees=sees)
        places = [place for place, message in enumerate(made.messages) if message["role"] == "assistant"]
        if not places:
            raise InputError(f"a sample of {source or 'the data'} has no message of the assistant's; correct it")
        return self._rendered(made.messages, made.tools, made.pictures, places, source)

    def collate(self, examples: Sequence[Example]) -> RenderedBatch:
        """Examples as one batch."""
        return RenderedBatch(
            pack([example.row for example in examples]),
            pixels=torch.zeros(0, 3, 1, 1, dtype=torch.uint8),
            targets=[],
            captioned=[],
            captions=None,
            sources=[example.source for example in examples],
            inputs=[cast(Rendered, example).inputs for example in examples],
        )

    def _rendered(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]],
        pictures: list[Picture],
        places: list[int],
        source: str,
    ) -> Rendered:
        *earlier, last = places
        seen = pictures[: _count(messages[:last])]
        inputs = dict(build_prompt(self._loaded, messages[:last], tools, seen).inputs)
        asked: list[int] = inputs["input_ids"][0].tolist()
        turn = self._turn(messages, tools, last)
        answer = turn.ids if turn.ids and turn.ids[-1] in self._ends else [*turn.ids, self.end]
        kept = asked[: len(asked) - turn.dropped]
        labels = [IGNORED] * len(kept) + answer
        growth = len(asked) - len(self._tokens(messages[:last], tools, prompt=True))
        after = 0
        for place in earlier:
            said = self._turn(messages, tools, place)
            begin = _find(kept, said, growth, after)
            if begin is None:  # templates may write what was said before in another way than what is said now
                log.debug("message %d of a sample of %s is written otherwise later on, and not counted", place, source)
                continue
            after = begin + len(said.ids)
            labels[begin:after] = said.ids
        ids = kept + answer
        return Rendered(Row(ids, labels), [], [], [], source, inputs=_longer(inputs, ids, len(asked)))

    def _turn(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], place: int) -> _Turn:
        """What the template writes of a message after the prompt for it."""
        asked = self._tokens(messages[:place], tools, prompt=True)
        said = self._tokens(messages[: place + 1], tools, prompt=False)
        begin = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, said, strict=False)))
        left = asked[begin:]
        dropped = len(left) if left and not self._is_blank(left) else 0
        while left and not dropped and begin < len(said) and self._is_blank(said[begin : begin + 1]):
            begin += 1  # the prompt ends with other white space than the template writes there
        ids = said[begin:]
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids) - 1)
        return _Turn(begin, said[max(0, begin - CONTEXT) : begin], ids[: end + 1], dropped)

    def _tokens(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], *, prompt: bool) -> list[int]:
        """The conversation with one placeholder for each picture."""
        processor = self._loaded.processor
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages,
            tools=tools or None,
            chat_template=self.tokenizer.chat_template if processor is None else processor.chat_template,
            add_generation_prompt=prompt,
            tokenize=True,
            return_dict=True,
            sanitize_control_tokens=True,
        )["input_ids"]
        return ids

    def _is_blank(self, ids: list[int]) -> bool:
        return not self.tokenizer.decode(ids, skip_special_tokens=False).strip()

    def _usual_end(self) -> int:
        """The token that the template ends answers with, or the one that ends a text."""
        said = [("user", "hi"), ("assistant", "yes")]
        sees = self._loaded.processor is not None
        blocks: list[dict[str, Any]] = [
            {"role": role, "content": [{"type": "text", "text": words}] if sees else words} for role, words in said
        ]
        last = self._turn(blocks, [], 1).ids[-1:]
        return int(last[0]) if last and last[0] in self._ends else int(self.tokenizer.eos_token_id)


class ForeignLesson(Lesson):
    """A network of whatever family, asked for the assistant's words."""

    def __init__(self, network: Any, losses: Losses) -> None:
        super().__init__(network, losses.model_copy(update={"marks": 0.0, "gaze": 0.0}))

    def forward(self, batch: Batch) -> Answers:
        """One pass over each example; logits only where they count."""
        device = self.network.device
        rows = batch.packed.labels[0].split(batch.packed.lengths)
        losses, wanted, got = [], [], []
        for inputs, labels in zip(cast(RenderedBatch, batch).inputs, rows, strict=True):
            places = (labels[1:] != IGNORED).nonzero().flatten()
            target = labels[1:][places].to(device)
            given = {name: self._cast(value) for name, value in inputs.items()}
            logits = self.network(**given, use_cache=False, logits_to_keep=places.to(device)).logits[0]  # [M, V]
            losses.append(F.cross_entropy(logits.float(), target, reduction="sum"))
            wanted.append(target)
            got.append(logits.argmax(-1))
        nothing = torch.zeros((), device=device)
        told = torch.cat(wanted), torch.cat(got)
        return Answers(torch.stack(losses).sum(), nothing, nothing, nothing, *told, {}, math.nan, math.nan)

    def _cast(self, value: torch.Tensor) -> torch.Tensor:
        wide = torch.is_floating_point(value)
        return value.to(self.network.device, self.network.dtype if wide else value.dtype)


class _Held:
    """Pictures of a sample where a request looks for them."""

    def __init__(self, sample: Sample) -> None:
        self._pictures = [shown.image for shown in sample.pictures]

    def open_image(self, file_id: str) -> Image:
        """The picture of that number."""
        return self._pictures[int(file_id)]


def _request(sample: Sample) -> ModelRequest:
    """A sample as an agent's model is asked."""
    messages: list[Message] = []
    waiting: list[str] = []  # ids of calls whose results follow
    pictures = 0
    for place, said in enumerate(sample.messages):
        content = said["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else [*(content or ())]
        for index, block in enumerate(blocks):
            if block["type"] == "image":
                blocks[index] = {"type": "image", "file_id": str(pictures)}
                pictures += 1
        for number, call in enumerate(said.get("tool_calls") or ()):
            function = call["function"]
            waiting.append(f"call_{place}_{number}")
            made = {"type": "tool_call", "id": waiting[-1], "name": function["name"], "args": function["arguments"]}
            blocks.append(made)
        answered = {"tool_call_id": waiting.pop(0), "name": said["name"]} if said["role"] == "tool" else {}
        messages.append(Message.model_validate({"role": said["role"], "content": blocks, **answered}))
    functions = [tool["function"] for tool in sample.tools]
    tools = tuple(ToolSpec(f["name"], f.get("description", ""), f["parameters"]) for f in functions)
    return ModelRequest(tuple(messages), cast("BlobStore", _Held(sample)), tools)


def _find(ids: list[int], turn: _Turn, growth: int, after: int) -> int | None:
    """Where an answer stands in a prompt whose pictures are many tokens each.

    Where no picture follows it, it is as far from the end as in the conversation without; else it is looked for.
    """
    places: list[int] = [turn.begin + growth, *range(after, len(ids) - len(turn.ids) + 1)]
    for begin in places:
        first = begin - len(turn.before)
        if first >= 0 and ids[first : begin + len(turn.ids)] == turn.before + turn.ids:
            return begin
    return None


def _count(messages: list[dict[str, Any]]) -> int:
    """Pictures of messages."""
    blocks = [message["content"] for message in messages if not isinstance(message["content"], str)]
    return sum(block["type"] == "image" for content in blocks for block in content)


def _longer(inputs: dict[str, Any], ids: list[int], asked: int) -> dict[str, torch.Tensor]:
    """The processor's inputs with the answer behind the prompt: whatever has a number for each token grows with it."""
    made: dict[str, torch.Tensor] = {}
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor):
            value = torch.as_tensor(value)
        if value.shape[:2] == (1, asked) and value.ndim == 2:
            fill = value.new_full((1, max(0, len(ids) - asked)), int(name == "attention_mask"))
            value = torch.cat([value, fill], 1)[:, : len(ids)]
        made[name] = value
    made["input_ids"] = torch.tensor([ids])
    return made
