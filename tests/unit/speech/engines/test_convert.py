"""One checkpoint in other files: names of weights, the real vocabulary, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmagent.errors import ConfigurationError, InputError, NotFound
from mmagent.speech.engines.convert import _renamed, convert
from mmagent.speech.engines.original import read_checkpoint
from mmagent.testing.whisper import save_whisper, vocabulary
from tests.unit.speech.engines.checkpoints import ASSETS, needs_data


def test_names_go_there_and_back(small: Path) -> None:
    from safetensors.torch import load_file

    names = [name for name in load_file(small / "model.safetensors") if name != "proj_out.weight"]
    theirs = [_renamed(name, to_ours=False) for name in names]
    assert len(set(theirs)) == len(names)
    assert [_renamed(name, to_ours=True) for name in theirs] == names
    assert "decoder.blocks.1.cross_attn.query.weight" in theirs
    assert "encoder.blocks.0.mlp.2.bias" in theirs
    assert {"encoder.ln_post.weight", "decoder.ln.bias", "decoder.token_embedding.weight"} <= set(theirs)


@needs_data
def test_a_file_of_openai_has_the_weights_and_dimensions(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source = save_whisper(
        tmp_path / "model", ASSETS / "multilingual.tiktoken", d_model=8, encoder_ffn_dim=32, decoder_ffn_dim=32
    )
    found = read_checkpoint(convert(source, tmp_path / "model.pt", "openai"))
    assert found["dims"]["n_vocab"] == 51865
    assert found["dims"]["n_audio_ctx"] == 1500
    weights = load_file(source / "model.safetensors")
    for name, tensor in found["model_state_dict"].items():
        torch.testing.assert_close(tensor, weights[_renamed(name, to_ours=True)], rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.pt"]  # nothing is left behind


@needs_data
@pytest.mark.parametrize("kind", ["multilingual", "gpt2"])
def test_the_real_vocabulary_is_joined_as_tiktoken_joins_it(kind: str) -> None:
    import base64

    import tiktoken

    lines = (ASSETS / f"{kind}.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    letters = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    known = tiktoken.Encoding(kind, pat_str=letters, mergeable_ranks=ranks, special_tokens={})
    tokenizer, special = vocabulary(ASSETS / f"{kind}.tiktoken")
    for text in ("Ask not what your country can do", " naïve café, 12345 don't", "你好 日本語  ♪♪", "\n\t x"):
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        assert tokens == known.encode(text)
        assert tokenizer.decode(tokens) == text
    assert all(tokenizer.convert_tokens_to_ids(name) == token for name, token in special.items())


def test_what_cannot_be_is_told(small: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no"):
        convert(tmp_path / "none", tmp_path / "a")
    with pytest.raises(InputError, match="is there already"):
        convert(small, tmp_path)
    with pytest.raises(InputError, match="of the format transformers already"):
        convert(small, tmp_path / "a", "transformers")
    with pytest.raises(InputError, match="give one of: transformers, openai, ctranslate2"):
        convert(small, tmp_path / "a", "ggml")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="a vocabulary of 1,"):
        convert(small, tmp_path / "a.pt", "openai")
    (tmp_path / "ct2").mkdir()
    (tmp_path / "ct2/model.bin").touch()
    with pytest.raises(InputError, match="cannot be turned back"):
        convert(tmp_path / "ct2", tmp_path / "a", "openai")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct2"]
