"""A bound on the tokens of one picture, set on the processors that cut pictures up. It knows the ways in which families
do so, and no pictures.
"""

from __future__ import annotations

from typing import Any


def limit_picture_tokens(model: Any, processor: Any, tokens: int) -> None:
    """Have a picture become at most some ``tokens``, where the processor leaves a choice; never more than before.

    The processor is changed, so that whatever runs it counts alike. Pictures get fewer tiles, or fewer pixels. The
    least is one tile. Marks between tiles are not counted.

    Args:
        model: The network; LLaVA-OneVision's also looks at the tilings.
        processor: Its processor.
        tokens: Of one picture.
    """
    images = processor.image_processor
    if hasattr(images, "merge_size"):  # Qwen-VL: as many tokens as pixels
        pixels = (images.patch_size * images.merge_size) ** 2
        _set_edges(images, longest_edge=max(images.size["shortest_edge"], tokens * pixels))
    elif hasattr(images, "image_grid_pinpoints"):  # LLaVA-OneVision: the nearest of some tilings, and the whole
        _limit_tilings(model, processor, tokens // processor.num_image_tokens - 1)
    elif hasattr(images, "max_patches"):  # InternVL: the nearest grid of so many tiles, and the whole
        images.max_patches = max(1, min(images.max_patches, tokens // processor.image_seq_length - 1))
    elif hasattr(images, "do_image_splitting"):  # Idefics 3, SmolVLM: a grid as fine as the picture, and the whole
        tiles = int(max(0, tokens // processor.image_seq_len - 1) ** 0.5)
        images.do_image_splitting = images.do_image_splitting and tiles > 1
        if images.do_image_splitting:
            _set_edges(images, longest_edge=tiles * images.max_image_size["longest_edge"])


def _set_edges(images: Any, longest_edge: int) -> None:
    size = {name: value for name, value in dict(images.size).items() if value is not None}
    images.size = type(images.size)(**size | {"longest_edge": min(size["longest_edge"], longest_edge)})


def _limit_tilings(model: Any, processor: Any, tiles: int) -> None:
    images = processor.image_processor
    side = min(value for value in dict(images.size).values() if value)
    sizes = sorted(images.image_grid_pinpoints, key=lambda size: int(size[0] * size[1]))
    kept = [size for size in sizes if size[0] * size[1] <= tiles * side * side]
    images.image_grid_pinpoints = model.config.image_grid_pinpoints = kept or sizes[:1]
