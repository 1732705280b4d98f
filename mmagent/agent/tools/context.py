"""What a tool is given and may give back beside plain values. It knows the conversation's media; it runs nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol

from typing_extensions import TypeVar

from mmagent.content import MediaBlock
from mmagent.errors import ToolError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from mmagent.knowledge import Hit
    from mmagent.media import BlobStore
    from mmagent.speech import Transcript

Deps = TypeVar("Deps", default=Any)

_NUMBERING = threading.Lock()
"""Held while a hit gets its number: calls that run at the same time share the list of hits."""


class Searchable(Protocol):
    """What an agent looks things up in: a `Knowledge`, or what somebody may see of one (`Knowledge.scoped`)."""

    def search(self, query: str, k: int = 3) -> list[Hit]:
        """The ``k`` passages and pictures that fit a query best, best first."""
        ...

    def quote(self, hit: Hit, claim: str) -> str:
        """The words of a hit that support a claim best, verbatim."""
        ...

    def picture(self, hit: Hit, *, box: bool = True, crop: bool = False) -> PILImage:
        """The hit's page, picture or frame, its box drawn in or cut out."""
        ...

    def sound(self, hit: Hit) -> bytes:
        """What is said in a hit, as WAV."""
        ...


class Hears(Protocol):
    """What listens to recordings: a `mmagent.speech.Transcriber`, or a double of one."""

    def transcribe(self, source: bytes) -> Transcript:
        """What is said in the file of a recording or video."""
        ...


@dataclass(frozen=True)
class ToolResult:
    """What a tool returns when it has more to say than one value."""

    content: Any = None
    """What the model is shown: anything a tool may return, or a list of such things."""
    data: Any = None
    """What is for programs: any JSON value."""
    artifacts: Sequence[Any] = ()
    """Files for programs: paths, bytes or media, kept in the blob store. The model is told one line of each."""


@dataclass(frozen=True)
class Progress:
    """How far a running tool is; a tool that is a generator yields it, others call `ToolContext.progress`."""

    message: str
    fraction: float | None = None
    """0 to 1, where it is known."""


@dataclass(frozen=True)
class ToolContext(Generic[Deps]):
    """The conversation, as a tool sees it. A parameter annotated with it is filled in and never shown to the model.

    ``ToolContext[Shop]`` says that the agent's ``deps`` must be a ``Shop``.
    """

    pictures: tuple[MediaBlock, ...] = ()
    """All pictures of the conversation, oldest first."""
    blobs: BlobStore | None = None
    """Where their bytes are."""
    knowledge: Searchable | None = None
    """What the agent can look things up in."""
    sees_pictures: bool = True
    """Whether the model takes pictures."""
    hits: list[Hit] = field(default_factory=list)
    """The passages that have been given numbers in this conversation; number 1 comes first."""
    deps: Deps = None  # type: ignore[assignment]
    """The program's own: what ``Agent(deps=...)`` was given."""
    call_id: str = ""
    """The id of this call, unique in the conversation."""
    idempotency_key: str = ""
    """The same whenever this call is repeated, after a crash too: give it to a service that takes such keys."""
    session: str | None = None
    """The conversation's name, where it is kept."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set once nobody waits for this call any more: long work in a thread should stop then."""
    on_progress: Callable[[Progress], None] | None = None
    """Is told of progress, in the thread of the agent's event loop."""
    labels: Counter[str] = field(default_factory=Counter)
    """How many media each tool has given so far, for their labels."""
    recordings: tuple[MediaBlock, ...] = ()
    """All recordings and videos of the conversation, oldest first."""
    transcriber: Hears | None = None
    """What listens to recordings, where there is a speech model."""

    def progress(self, message: str, fraction: float | None = None) -> None:
        """Say how far this call is; from any thread.

        Args:
            message: What is being done.
            fraction: How much of it is done, 0 to 1, where it is known.
        """
        if self.on_progress is not None and not self.cancelled.is_set():
            self.on_progress(Progress(message, fraction))

    def open_picture(self, number: int = 0) -> PILImage:
        """A picture's pixels, upright, in RGB.

        Args:
            number: 1 is the first picture of the conversation, 0 the latest.

        Raises:
            ToolError: There is no such picture.
        """
        if not self.pictures or self.blobs is None:
            raise ToolError("there is no picture in this conversation")
        if not 0 <= number <= len(self.pictures):
            raise ToolError(f"there is no picture {number}; the latest is picture {len(self.pictures)}")
        return self.blobs.open_image(self.pictures[number - 1]["file_id"])

    def cite(self, hit: Hit) -> int:
        """The number of a search hit in this conversation: 1, 2, ...; the same hit has the same number."""
        with _NUMBERING:
            for number, known in enumerate(self.hits, start=1):
                if known.id == hit.id:
                    return number
            self.hits.append(hit)
            return len(self.hits)
