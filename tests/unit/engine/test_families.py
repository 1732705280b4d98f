"""Stock networks of transformers behind the same loop: each must say what it says without our caches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mmagent.engine import Decoder, Loaded, Picture, Prompt
from mmagent.testing.tiny import byte_tokenizer

TEXT: dict[str, Any] = {
    "vocab_size": 265, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "eos_token_id": 1, "bos_token_id": None,
    "pad_token_id": 0,
}  # fmt: skip
SIGLIP: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip
IMAGE = 6  # the id of <|image|>


def pixels(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def wrap(model: Any, make: Any = None) -> Loaded:
    """A loaded network whose processor turns a picture into pixels by the picture's width."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    processor = make and SimpleNamespace(image_processor=lambda images, return_tensors: make(images[0].width))
    return Loaded(model.eval(), processor, byte_tokenizer(), torch.device("cpu"), torch.float32, "stock", 256)


def llava() -> tuple[Loaded, int]:
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**SIGLIP), text_config=LlamaConfig(**TEXT), image_token_id=IMAGE,
        vision_feature_select_strategy="full",
    )  # fmt: skip
    return wrap(LlavaForConditionalGeneration(config), lambda seed: {"pixel_values": pixels(seed, 1, 3, 16, 16)}), 4


def smolvlm() -> tuple[Loaded, int]:
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

    config = SmolVLMConfig(
        vision_config=SIGLIP, text_config=LlamaConfig(**TEXT), image_token_id=IMAGE, scale_factor=2, pad_token_id=0
    )

    def make(seed: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": pixels(seed, 1, 2, 3, 16, 16), "pixel_attention_mask": torch.ones(1, 2, 16, 16).long()}

    return wrap(SmolVLMForConditionalGeneration(config), make), 2  # two tiles of one token


def check(loaded: Loaded, prompts: list[Prompt], full: Any) -> list[int]:
    """Logits of each prompt and of two tokens after it; how much of each was reused."""
    decoder = Decoder(loaded, prefix_cache_bytes=1 << 24, feature_cache_bytes=1 << 24)
    reused = []
    for prompt in prompts:
        sequence = decoder.open(prompt)
        reused.append(int(sequence.past.get_seq_length()))
        logits = decoder.forward(sequence.tokens[reused[-1] :], sequence.past, sequence.inputs)
        for more in ([], [70, 71]):
            if more:
                sequence.tokens += more
                sequence.keys += more
                logits = decoder.forward(more, sequence.past, {})
            with torch.no_grad():
                expected = full(sequence.tokens, prompt)
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        if decoder.reuses:
            decoder.prefixes.put(sequence.tokens, sequence.keys, sequence.past)
    return reused


@pytest.mark.parametrize("family", [llava, smolvlm])
def test_networks_that_take_features(family: Any) -> None:
    loaded, count = family()
    one, other = (Picture(f"sha256:{width}", Image.new("RGB", (width, 4))) for width in (3, 5))
    head, place = [30, 31, 32], [IMAGE] * count
    prompts = [
        Prompt([*head, *place, 40, 41], (one,)),
        Prompt([*head, *place, 40, 41, 70, 71, 50, *place, 51], (one, other)),
        Prompt([*head, *place, 40, 41], (other,)),
    ]

    def full(tokens: list[int], prompt: Prompt) -> torch.Tensor:
        made = [loaded.processor.image_processor([picture.image], "pt") for picture in prompt.pictures]
        inputs = {name: torch.cat([item[name] for item in made]) for name in made[0]}
        logits: torch.Tensor = loaded.model(input_ids=torch.tensor([tokens]), **inputs).logits[0, -1]
        return logits

    assert check(loaded, prompts, full) == [0, len(prompts[0].ids) + 2, len(head)]


def test_networks_whose_positions_depend_on_pictures_run_from_the_beginning() -> None:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    text = {key: value for key, value in TEXT.items() if key != "bos_token_id"}
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
    config = Qwen2VLConfig(
        text_config={**text, "rope_parameters": rope},
        vision_config={"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "patch_size": 4, "mlp_ratio": 2},
        image_token_id=IMAGE, vision_start_token_id=2, vision_end_token_id=3, video_token_id=5,
    )  # fmt: skip
    loaded = wrap(Qwen2VLForConditionalGeneration(config), lambda seed: {})
    ids = [30, 2, *[IMAGE] * 4, 3, 40, 41]
    image = {"pixel_values": pixels(0, 16, 3 * 2 * 4 * 4), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    kinds = torch.tensor([[int(token == IMAGE) for token in ids]])

    def full(tokens: list[int], prompt: Prompt) -> torch.Tensor:
        more = len(tokens) - len(ids)
        padded = torch.cat([kinds, torch.zeros(1, more, dtype=kinds.dtype)], dim=1)
        output = loaded.model(input_ids=torch.tensor([tokens]), mm_token_type_ids=padded, **image)
        return torch.as_tensor(output.logits[0, -1])

    prompt = Prompt(ids, (), {"input_ids": torch.tensor([ids]), "mm_token_type_ids": kinds, **image})
    assert check(loaded, [prompt, prompt], full) == [0, 0]


@pytest.mark.parametrize("window", [None, 4])
def test_text_only_networks(window: int | None) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    loaded = wrap(MistralForCausalLM(MistralConfig(**TEXT, sliding_window=window)))

    def full(tokens: list[int], prompt: Prompt) -> torch.Tensor:
        logits: torch.Tensor = loaded.model(input_ids=torch.tensor([tokens])).logits[0, -1]
        return logits

    prompts = [Prompt(list(range(30, 40))), Prompt([*range(30, 40), 70, 71, 50])]
    assert check(loaded, prompts, full) == ([0, 12] if window is None else [0, 0])
