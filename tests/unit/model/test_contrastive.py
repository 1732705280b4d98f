"""The contrastive head: losses against transformers' own, embeddings against padding, a training that works."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from mmagent.errors import ConfigurationError
from mmagent.model.contrastive import ContrastiveHead

SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT: dict[str, Any] = {**SMALL, "vocab_size": 30, "max_position_embeddings": 8, "eos_token_id": 2}
VISION: dict[str, Any] = {**SMALL, "image_size": 8, "patch_size": 4}
THEIRS = {
    "siglip": lambda: SiglipModel(
        SiglipConfig(text_config=SiglipTextConfig(**TEXT), vision_config=SiglipVisionConfig(**VISION))
    ),
    "clip": lambda: CLIPModel(
        CLIPConfig(text_config=CLIPTextConfig(**TEXT), vision_config=CLIPVisionConfig(**VISION), projection_dim=16)
    ),
}


@pytest.mark.parametrize("kind", THEIRS)
def test_the_loss_and_its_gradients_are_those_of_transformers(kind: str) -> None:
    torch.manual_seed(0)
    theirs, head = THEIRS[kind]().eval(), ContrastiveHead(4, 4, 16, kind)
    theirs.logit_scale.data.fill_(1.3)
    head.logit_scale.data.fill_(1.3)
    if kind == "siglip":
        theirs.logit_bias.data.fill_(-2.1)
        head.logit_bias.data.fill_(-2.1)
    made = theirs(input_ids=torch.randint(3, 30, (5, 8)), pixel_values=torch.randn(5, 3, 8, 8), return_loss=True)
    images, texts = made.image_embeds.detach(), made.text_embeds.detach()
    loss = head.loss(images, texts)
    assert torch.allclose(head.logits(images, texts), made.logits_per_text, atol=1e-5)
    assert torch.allclose(loss, made.loss, atol=1e-5)
    loss.backward()
    made.loss.backward()
    assert torch.allclose(head.logit_scale.grad, theirs.logit_scale.grad, atol=1e-5)


@pytest.mark.parametrize("kind", THEIRS)
def test_the_temperature_starts_where_the_papers_start_it(make: Any, kind: str) -> None:
    model, _ = make(projection_dim=8, contrastive_loss=kind)
    assert model.contrastive.logit_scale.exp().item() == pytest.approx({"siglip": 10, "clip": 1 / 0.07}[kind])
    assert model.contrastive.logit_bias is None if kind == "clip" else model.contrastive.logit_bias.item() == -10


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_embeddings_are_unit_vectors_that_know_no_padding(make: Any, side: str) -> None:
    model, processor = make(projection_dim=8)
    processor.tokenizer.padding_side = side
    texts = ["a short one", "one that is quite a bit longer than the others", "x"]
    batch = processor.tokenizer(texts, padding=True, return_tensors="pt")
    together = model.embed_texts(batch["input_ids"], batch["attention_mask"])
    alone = torch.cat(
        [model.embed_texts(processor.tokenizer(text, return_tensors="pt")["input_ids"]) for text in texts]
    )
    assert torch.allclose(together, alone, atol=1e-5)
    images = model.embed_images(torch.randn(2, 3, 32, 32))
    assert images.shape == (2, 8) and together.shape == (3, 8)
    assert torch.allclose(torch.cat((images, together)).norm(dim=-1), torch.ones(5), atol=1e-6)


@pytest.mark.parametrize("kind", THEIRS)
def test_it_learns_which_text_belongs_to_which_picture(make: Any, kind: str) -> None:
    model, processor = make(projection_dim=16, contrastive_loss=kind)
    torch.manual_seed(1)
    pixels = torch.randn(8, 3, 32, 32)
    texts = ["lamp", "desk", "mug", "rug", "sofa", "vase", "clock", "chair"]
    batch = processor.tokenizer(texts, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        images, words = model.embed_images(pixels), model.embed_texts(batch["input_ids"], batch["attention_mask"])
        loss = model.contrastive.loss(images, words)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = model.contrastive.logits(images, words)
    assert logits.argmax(0).tolist() == logits.argmax(1).tolist() == list(range(8)), "recall@1 is 1 both ways"


def test_without_a_head_there_are_no_parameters_and_no_embeddings(make: Any) -> None:
    model, _ = make()
    assert not [name for name in model.state_dict() if "contrastive" in name]
    with pytest.raises(ConfigurationError, match="set projection_dim"):
        model.embed_images(torch.zeros(1, 3, 32, 32))
