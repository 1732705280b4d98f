"""Picture features by content hash, and where they stand in a prompt: the vision tower runs once for each picture. It
knows pictures and placeholder tokens, no text.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from mmagent.engine.decoder.network import Insets
from mmagent.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmagent.engine.load import Loaded


@dataclass(frozen=True)
class Features:
    """What the vision tower and connector make of one picture."""

    tokens: torch.Tensor
    """``[T, D]`` for its T placeholder tokens."""
    deep: tuple[torch.Tensor, ...] = ()
    """``[T, D]`` for each of the decoder's first layers (DeepStack), where the network has that."""
    grid: torch.Tensor | None = None
    """``[1, 3]``: patches in time, height and width, where positions depend on them."""
    tiles: tuple[torch.Tensor, ...] = ()
    """The same as ``tokens``, cut as the network's own forward takes it."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        parts = [self.tokens, *self.deep, *self.tiles]
        return sum({part.data_ptr(): part.nbytes for part in parts}.values())


class FeatureCache:
    """Features by picture key, the least recently used dropped first. One belongs to one loaded network.

    Args:
        max_bytes: Of all features; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes held."""
        self._items: OrderedDict[str, Features] = OrderedDict()

    def get(self, key: str) -> Features | None:
        """The features of a picture, or None."""
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, key: str, features: Features) -> None:
        """Keep a picture's features."""
        self._drop(key)
        if features.nbytes > self.max_bytes:
            return
        self._items[key] = features
        self.size += features.nbytes
        while self.size > self.max_bytes:
            self._drop(next(iter(self._items)))

    def clear(self) -> None:
        """Forget all."""
        self._items.clear()
        self.size = 0

    def _drop(self, key: str) -> None:
        if (features := self._items.pop(key, None)) is not None:
            self.size -= features.nbytes


@torch.no_grad()
def encode_picture(loaded: Loaded, image: Image, *, alone: bool = True) -> Features:
    """Run the vision tower on one picture.

    Args:
        loaded: The network.
        image: The picture.
        alone: Whether it is the prompt's only one; some networks cut only such a one into tiles.
    """
    model = loaded.model
    wanted = inspect.signature(model.get_image_features).parameters
    paired = not alone and "batch_num_images" in wanted  # with a twin it is prepared like one of several
    inputs = loaded.processor.image_processor(images=[[image, image]] if paired else [image], return_tensors="pt")
    tensors = {name: value.to(loaded.device) for name, value in inputs.items() if name in wanted}
    if paired:
        tensors |= {name: tensors[name][:1] for name in ("pixel_values", "image_sizes")}
    tensors["pixel_values"] = tensors["pixel_values"].to(loaded.dtype)
    output = model.get_image_features(**tensors, return_dict=True)
    deep = getattr(output, "deepstack_features", None) or ()
    tiles = _parts(output.pooler_output)
    return Features(
        tokens=_flat(tiles),
        deep=tuple(_flat(_parts(layer)) for layer in deep),
        grid=tensors.get("image_grid_thw"),
        tiles=tiles,
    )


def depends_on_company(model: Any) -> bool:
    """Whether a picture is cut up otherwise when it is the prompt's only one."""
    encode = getattr(model, "get_image_features", None)
    return encode is not None and "batch_num_images" in inspect.signature(encode).parameters


def place_features(
    loaded: Loaded, ids: list[int], features: list[Features], *, whole_pictures: bool = False
) -> tuple[list[range], Insets | None]:
    """Where pictures stand in a prompt.

    Args:
        loaded: The network.
        ids: The prompt's tokens.
        features: Of its pictures, in order.
        whole_pictures: Whether each token of a picture sees the whole picture.

    Returns:
        For each picture the range from its first to its last placeholder, and what the network needs of them all.

    Raises:
        ModelError: The prompt has more or fewer placeholders than the pictures need.
    """
    if not features:
        return [], None
    here = [index for index, token in enumerate(ids) if token == loaded.model.config.image_token_id]
    needed = sum(len(item.tokens) for item in features)
    if len(here) != needed:
        raise ModelError(
            f"the prompt of {loaded.name} has {len(here)} places for its pictures, which need {needed}; "
            "the checkpoint's processor does not fit its network"
        )
    spans, rest = [], here
    for item in features:
        mine, rest = rest[: len(item.tokens)], rest[len(item.tokens) :]
        spans.append(range(mine[0], mine[-1] + 1))
    insets = Insets(
        places=torch.tensor(here),
        features=torch.cat([item.tokens for item in features]),
        deep=tuple(torch.cat(layers) for layers in zip(*(item.deep for item in features), strict=True)),
        turns=_turns(loaded, ids, features),
        ends=_ends(ids, here) if whole_pictures else None,
        pictures=tuple((span.start, item) for span, item in zip(spans, features, strict=True)),
    )
    return spans, insets


def _turns(loaded: Loaded, ids: list[int], features: list[Features]) -> torch.Tensor | None:
    """Rotary positions ``[3, L]`` of networks that count pictures by height and width."""
    rope_index = getattr(getattr(loaded.model, "model", None), "get_rope_index", None)
    grids = [item.grid for item in features if item.grid is not None]
    if rope_index is None or not grids:
        return None
    tokens = torch.tensor([ids], device=loaded.device)
    kinds = (tokens == loaded.model.config.image_token_id).int()
    positions: torch.Tensor = rope_index(tokens, mm_token_type_ids=kinds, image_grid_thw=torch.cat(grids))[0]
    return positions[:, 0].cpu()


def _ends(ids: list[int], here: list[int]) -> torch.Tensor:
    """First position ``[L]`` that each token does not see: the next one, or the end of the picture it is of."""
    ends = torch.arange(1, len(ids) + 1)
    for _, run in groupby(enumerate(here), key=lambda pair: pair[1] - pair[0]):
        places = [place for _, place in run]
        ends[places[0] : places[-1] + 1] = places[-1] + 1
    return ends


def _parts(features: Any) -> tuple[torch.Tensor, ...]:
    return tuple(features) if isinstance(features, list | tuple) else (features,)


def _flat(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    flat = [part.reshape(-1, part.shape[-1]) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat)
