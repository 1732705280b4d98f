"""Every knob and limit, from the environment: ``MMAGENT_`` and the field's name, e.g. ``MMAGENT_MODEL``.

Settings are read at the edge (command line, constructors); inside, everything takes plain arguments.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mmagent.errors import ConfigurationError

MIB = 1024 * 1024


class Settings(BaseSettings):
    """What can be set. Sizes are bytes unless the name says otherwise, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="MMAGENT_", extra="ignore", frozen=True)

    model: str = "auto"
    """The model: ``auto``, ``nano``, a directory, a hub id, or a LangChain provider string such as ``openai:gpt-5``."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    data_dir: Path | None = None
    config_dir: Path | None = None
    sessions: str | None = None
    """Where conversations are kept: a file, or the address of a PostgreSQL database; None: a file in `data_dir`."""
    offline: bool = True
    """Without it, a hub id may be downloaded when it is not cached."""

    max_steps: int = Field(default=12, ge=1)
    """Model calls in one turn."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens generated in one step."""
    turn_timeout: float = Field(default=600, gt=0)
    tool_timeout: float = Field(default=60, gt=0)
    max_rows: int = Field(default=8, ge=1)
    """Requests that a local model answers at once."""
    max_queue: int = Field(default=64, ge=0)
    """Requests that wait for a local model; more are refused."""
    prefix_cache_bytes: int = Field(default=512 * MIB, ge=0)
    feature_cache_bytes: int = Field(default=256 * MIB, ge=0)

    max_request_bytes: int = Field(default=32 * MIB, gt=0)
    max_image_bytes: int = Field(default=10 * MIB, gt=0)
    max_image_pixels: int = Field(default=25_000_000, gt=0)
    max_image_side: int = Field(default=8192, gt=0)
    """Pixels."""
    max_images_per_turn: int = Field(default=20, gt=0)
    max_audio_bytes: int = Field(default=25 * MIB, gt=0)
    max_audio_seconds: int = Field(default=600, gt=0)
    max_video_bytes: int = Field(default=64 * MIB, gt=0)
    max_video_seconds: int = Field(default=120, gt=0)
    max_document_bytes: int = Field(default=20 * MIB, gt=0)
    max_tool_output_chars: int = Field(default=20_000, gt=0)
    """Longer tool output is cut, and says so."""
    embedder: str = "minilm"
    """What documents are embedded with: ``minilm``, a folder, or a hub id."""
    picture_embedder: str | None = None
    """What puts pictures and texts into one space, as CLIP does: a folder or a hub id; None: pictures by their text."""
    speech_model: str | None = None
    """What listens: a folder with a Whisper model, a ``.pt`` file or a hub id; None: nano, which hears a
    little, and recordings are not taken into stores of documents."""
    chroma: str | None = None
    """A Chroma server, ``http://host:port``, or ``cloud``; None: in process."""
    ocr: bool = True
    """Whether text in pictures and scanned pages is read when they are taken in."""
    max_index_pages: int = Field(default=1000, gt=0)
    """Pages of a document that is taken in to be searched."""
    max_index_seconds: int = Field(default=7200, gt=0)
    """Length of a recording or video that is taken in to be searched."""
    max_archive_bytes: int = Field(default=256 * MIB, gt=0)
    """What an archive or Office file may hold, unpacked."""
    max_archive_files: int = Field(default=1000, gt=0)
    index_workers: int = Field(default=2, ge=1)
    """Processes that read documents."""
    index_timeout: float = Field(default=300, gt=0)
    """For reading one document."""
    exact_search_limit: int = Field(default=100_000, ge=0)
    """Passages up to which a search compares every vector; beyond, Chroma's HNSW index finds the nearest."""

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable of a field, for error messages."""
        if field not in cls.model_fields:
            raise KeyError(field)
        return f"MMAGENT_{field.upper()}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigurationError: A variable has a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = Settings.variable(str(first["loc"][0]))
        raise ConfigurationError(f"{name} is set to {first['input']!r}: {first['msg']}; correct or unset it") from error
