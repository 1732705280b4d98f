"""What any way to run a decoder is held to: prompts with and without pictures, and transformers' own logits of them. It
knows a loaded network, and nothing of how it is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from mmagent.engine import Loaded, Picture, Prompt
    from mmagent.engine.decoder.network import Insets


def noise_picture(seed: int, width: int = 40, height: int = 30) -> Picture:
    """A picture that no other seed has; sizes in pixels."""
    import torch
    from PIL import Image

    from mmagent.engine import Picture

    pixels = torch.randint(0, 255, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Picture(f"sha256:{seed}", Image.fromarray(pixels.numpy()))


def user_prompt(loaded: Loaded, words: str, pictures: Sequence[Picture] = ()) -> Prompt:
    """One message of a user, pictures first."""
    from mmagent.engine import build_prompt

    blocks: Any = words
    if loaded.processor is not None:
        blocks = [*({"type": "image", "image": one.image} for one in pictures), {"type": "text", "text": words}]
    return build_prompt(loaded, [{"role": "user", "content": blocks}], [], pictures)


def parity_prompts(loaded: Loaded) -> list[Prompt]:
    """With one picture, with two of other shapes, and with none; where it takes no pictures, two of words alone."""
    words = "Where is my order A-17? It should have come on Monday."
    if loaded.processor is None:
        return [user_prompt(loaded, words), user_prompt(loaded, "hello")]
    two = [noise_picture(2), noise_picture(3, 25, 60)]
    return [
        user_prompt(loaded, words, [noise_picture(1)]),
        user_prompt(loaded, "both?", two),
        user_prompt(loaded, words),
    ]


def insets_of(loaded: Loaded, prompt: Prompt, *, whole_pictures: bool) -> Insets | None:
    """What a network is given of a prompt's pictures."""
    from mmagent.engine.features import encode_picture, place_features

    alone = len(prompt.pictures) == 1
    features = [encode_picture(loaded, one.image, alone=alone) for one in prompt.pictures]
    return place_features(loaded, prompt.ids, features, whole_pictures=whole_pictures)[1]


def expected_logits(loaded: Loaded, prompt: Prompt, more: Sequence[int]) -> torch.Tensor:
    """Logits ``[L + more, V]`` of transformers' own forward over a prompt and tokens after it, all at once."""
    import torch

    inputs = {name: value for name, value in prompt.inputs.items() if name != "attention_mask"}
    for name in ("input_ids", "mm_token_type_ids", "token_type_ids"):
        if name in inputs:
            known = torch.as_tensor(inputs[name])
            tail = torch.tensor([list(more)]) if name == "input_ids" else torch.zeros(1, len(more), dtype=torch.long)
            inputs[name] = torch.cat([known, tail.to(known.dtype)], 1)
    with torch.no_grad():
        logits: torch.Tensor = loaded.model(**inputs).logits[0].float()
    return logits
