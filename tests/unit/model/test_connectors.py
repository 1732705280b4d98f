"""Connectors make as many tokens as the configuration counts, and gated ones change nothing before they learn."""

from __future__ import annotations

import pytest
import torch

from mmagent.errors import ConfigurationError
from mmagent.model import CONNECTORS, MMAgentConfig, build_connector
from mmagent.model.connectors import Shape

TOKENS = {"linear": 16, "mlp": 16, "pixel_shuffle_mlp": 4, "perceiver": 3}


def test_the_registry_is_what_the_documents_say() -> None:
    assert set(CONNECTORS) == {*TOKENS, "gated_cross_attention"}


@pytest.mark.parametrize("name", TOKENS)
def test_each_makes_the_tokens_that_the_configuration_counts(make, name: str) -> None:
    model, _ = make(connector=name)
    features = model.get_image_features(torch.randn(2, 3, 32, 32)).pooler_output
    assert features.shape == (2, TOKENS[name], 48) == (2, model.config.image_tokens, 48)


@pytest.mark.parametrize("name", TOKENS)
def test_each_learns_and_lets_the_tower_learn(make, name: str) -> None:
    model, _ = make(connector=name)
    model.get_image_features(torch.randn(2, 3, 32, 32)).pooler_output.square().sum().backward()
    for part in (model.connector, model.vision_tower.encoder.embeddings.patch_embedding):
        assert all(parameter.grad.abs().max() > 0 for parameter in part.parameters())


def test_a_perceiver_reads_a_set() -> None:
    perceiver = build_connector("perceiver", 8, 64, 1, latents=5)
    patches = torch.randn(1, 7, 8)
    assert torch.allclose(perceiver(patches), perceiver(patches.flip(1)), atol=1e-6)
    assert perceiver(patches[:, :2]).shape == (1, 5, 64)


def test_gated_cross_attention_is_flamingos_formula() -> None:
    """Against torch's own attention module."""
    gated = CONNECTORS["gated_cross_attention"](Shape(24, 16))
    gated.attention_gate.data.fill_(0.3)
    gated.feed_gate.data.fill_(-0.2)
    theirs = torch.nn.MultiheadAttention(16, 1, bias=False, kdim=24, vdim=24, batch_first=True)
    key, value = gated.attention.key_value.weight.chunk(2)
    for mine, other in (
        (gated.attention.query.weight, theirs.q_proj_weight),
        (key, theirs.k_proj_weight),
        (value, theirs.v_proj_weight),
        (gated.attention.out.weight, theirs.out_proj.weight),
    ):
        other.data.copy_(mine)
    hidden, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 24)
    memory_normed = torch.nn.functional.layer_norm(memory, (24,))
    expected = hidden + torch.tensor(0.3).tanh() * theirs(gated.norm(hidden), memory_normed, memory_normed)[0]
    expected = expected + torch.tensor(-0.2).tanh() * gated.feed_forward(expected)
    got = gated(hidden, *gated.project(memory), torch.ones(2, 5, 7, dtype=torch.bool))
    assert torch.allclose(got, expected, atol=1e-5)


def test_gated_cross_attention_starts_as_nothing_and_leaves_the_blind_alone() -> None:
    gated = CONNECTORS["gated_cross_attention"](Shape(24, 16))
    hidden, visible = torch.randn(1, 4, 16), torch.tensor([[[False] * 7] * 2 + [[True] * 7] * 2])
    assert torch.equal(gated(hidden, *gated.project(torch.randn(1, 7, 24)), visible), hidden)
    gated.attention_gate.data.fill_(1.0)
    gated.feed_gate.data.fill_(1.0)
    after = gated(hidden, *gated.project(torch.randn(1, 7, 24)), visible)
    assert torch.equal(after[:, :2], hidden[:, :2])
    assert (after[:, 2:] - hidden[:, 2:]).abs().max() > 0.01


def test_what_cannot_work_is_refused_in_words() -> None:
    with pytest.raises(ConfigurationError, match="use one of: early, cross_attention, late"):
        MMAgentConfig(fusion="psychic")
    with pytest.raises(ConfigurationError, match="set fusion to cross_attention"):
        MMAgentConfig(connector="gated_cross_attention")
    with pytest.raises(ConfigurationError, match="add_audio_token"):
        MMAgentConfig(audio_config={})
    with pytest.raises(ConfigurationError, match="tiles is 0"):
        MMAgentConfig(tiles=0)
