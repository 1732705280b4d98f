"""What a model is asked: the request of one step. It knows messages and models' capabilities; it runs nothing.

The same conversation always makes the same request, and a longer one begins with it: caches of prefixes live on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mmagent.agent.tools import AnyTool
from mmagent.chat.protocol import ToolSpec
from mmagent.content import Block, MediaBlock, Message, is_correction, text

COMPACTED = "compaction"
"""`Message.name` of the messages that stand for compacted turns."""


def begins_turn(message: Message) -> bool:
    """Whether a message is a user's question."""
    return message.role == "user" and message.name != COMPACTED and not is_correction(message)


def system_message(prompt: str) -> Message:
    """The message that every request begins with."""
    return Message(role="system", content=(text(prompt),))


def tool_specs(tools: Mapping[str, AnyTool]) -> tuple[ToolSpec, ...]:
    """What the model is told of its tools, in their order."""
    return tuple(ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools.values())


def extend(shown: list[Message], message: Message) -> None:
    """Add a message; one of the user's that follows another of the user's is made one with it.

    They follow each other where a turn failed. The templates of some models refuse a conversation that does not
    alternate.
    """
    if message.role == "user" and shown and shown[-1].role == "user":
        both = (*shown[-1].content, text("\n"), *message.content)
        shown[-1] = shown[-1].model_copy(update={"content": both})
    else:
        shown.append(message)


def replace_media(message: Message, instead: Callable[[MediaBlock], Block]) -> Message:
    """A message with something in the place of each of its pictures, recordings, videos and files."""
    if not message.media:
        return message
    content = tuple(
        instead(block) if block["type"] in ("image", "audio", "video", "file") else block for block in message.content
    )
    return message.model_copy(update={"content": content})


def picture_note(number: int, picture: MediaBlock, *, readable: bool) -> str:
    """What stands in the place of a picture that the model cannot see.

    Args:
        number: The picture's number in the conversation.
        picture: Its block.
        readable: Whether the model has `read_text`.
    """
    extras = picture.get("extras", {})
    size = f"{extras.get('width', '?')}x{extras.get('height', '?')}"
    hint = "; read_text can read it" if readable else ""
    return f"[picture {number}: {size}, the model cannot see it{hint}]"


def file_note(block: MediaBlock) -> str:
    """What stands in the place of a recording, a video or a document that the model cannot take."""
    kind, cannot = {"audio": ("recording", "hear"), "video": ("video", "see")}.get(block["type"], ("document", "open"))
    extras = block.get("extras", {})
    name = f" {extras['name']}" if extras.get("name") else ""
    seconds = f", {extras['seconds']:.0f} s" if extras.get("seconds") else ""
    return f"[{kind}{name}{seconds}: the model cannot {cannot} it]"


def spoken(block: MediaBlock, said: str, limit: int) -> str:
    """What stands in the place of a recording that was written down: the words, as `mmagent.agent.hearing` keeps them.

    Each of its lines begins with its time, and none has a line's end in it, so it is plain where they end.

    Args:
        block: Its block.
        said: A line for each segment.
        limit: How many characters of it are shown.
    """
    what = file_note(block).partition(":")[0]
    if not said:
        return f"{what}: nobody speaks in it]"
    cut = f"\n[cut: this is the beginning, {limit} of {len(said)} characters]" if len(said) > limit else ""
    return f"{what}, what is said in it:]\n{said[:limit]}{cut}"


def is_text_file(block: MediaBlock) -> bool:
    """Whether a document is plain text, which any model can be shown."""
    mime_type = block.get("mime_type", "")
    return block["type"] == "file" and (mime_type.startswith("text/") or mime_type == "application/json")


def document(block: MediaBlock, words: str, limit: int) -> str:
    """A plain text document, as a model is shown it."""
    name = block.get("extras", {}).get("name") or "document"
    cut = f"\n[cut: this is the beginning, {limit} of {len(words)} characters]" if len(words) > limit else ""
    return f"[document {name}]\n{words[:limit]}{cut}\n[end of {name}]"


def caption(number: int, block: MediaBlock, written: str, *, recall: bool) -> str:
    """What stands in the place of a picture that was seen once: its name, its size and the text in it."""
    said = f', text in it: "{written}"' if written else ""
    return f"[picture {number}: {_what(block)}{said}{_hint(recall)}]"


def reference(number: int, block: MediaBlock, *, recall: bool) -> str:
    """What stands in the place of a picture for which there is no room: enough to find it again."""
    return f"[picture {number}: {_what(block)} {block['file_id'][:15]}…{_hint(recall)}]"


def _what(block: MediaBlock) -> str:
    extras = block.get("extras", {})
    name = extras.get("name") or extras.get("label") or ""
    return f"{name} {extras.get('width', '?')}x{extras.get('height', '?')}".strip()


def _hint(recall: bool) -> str:
    return "; recall_media shows it again" if recall else ""
