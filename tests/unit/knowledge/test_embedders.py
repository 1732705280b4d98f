"""Embedders over tiny random checkpoints: the libraries' own vectors, whatever they are loaded by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmagent.errors import MissingExtra, MMAgentError, ModelError, NotFound
from mmagent.knowledge.embed import PictureEmbedder
from mmagent.knowledge.embed.clip import ClipEmbedder
from mmagent.knowledge.embed.langchain import LangChainEmbedder
from mmagent.knowledge.embed.load import find_folder, load_embedder, load_picture_embedder
from mmagent.knowledge.embed.minilm import MiniLM
from mmagent.knowledge.embed.nano import ContrastiveEmbedder
from mmagent.knowledge.embed.sentence import SentenceEmbedder, SentencePictureEmbedder
from mmagent.testing import tiny_vlm

WORDS = ["a", "red", "blue", "lamp", "chair", "on", "the", "table", "two", "cats"]
WORDS += ["refund", "card", "query", "document", "passage"]
TEXTS = ["a red lamp", "two cats on the table", "blue", "refund " * 30]
SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION: dict[str, Any] = {**SMALL, "image_size": 32, "patch_size": 8}


def tokenizer(first: str, last: str) -> Any:
    """One token a word, between a first and a last token; padded with its own."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {token: index for index, token in enumerate(["[PAD]", "[UNK]", first, last, *WORDS])}
    words = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(first, vocab[first]), (last, vocab[last])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token=first, sep_token=last, eos_token=last
    )


def make_clip(folder: Path, kind: str) -> Path:
    """A random CLIP or SigLIP of some 50,000 parameters, processor and all."""
    import torch
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": len(WORDS) + 4, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    size = {"height": 32, "width": 32}
    if kind == "clip":
        config: Any = CLIPConfig(
            text_config=text | {"max_position_embeddings": 12, "projection_dim": 16},
            vision_config=VISION | {"projection_dim": 16},
            projection_dim=16,
        )
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    else:
        config = SiglipConfig(
            text_config=text | {"max_position_embeddings": 16, "projection_size": 32}, vision_config=VISION
        )
        SiglipModel(config).save_pretrained(folder)
        SiglipImageProcessorPil(size=size).save_pretrained(folder)
    tokenizer("<|start|>", "<|end|>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["clip", "siglip"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 255, (40 + n, 50, 3), dtype=np.uint8)) for n in range(20)]


def rows(made: Any) -> NDArray[np.float32]:
    import torch

    vectors: NDArray[np.float32] = torch.nn.functional.normalize(made.pooler_output, dim=-1).numpy()
    return vectors


def test_clip_gives_the_vectors_of_transformers(checkpoint: Path, pictures: list[Image.Image]) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    embedder = ClipEmbedder(checkpoint, device="cpu")
    model = AutoModel.from_pretrained(checkpoint).eval()
    words, pixels = AutoTokenizer.from_pretrained(checkpoint), AutoImageProcessor.from_pretrained(checkpoint)
    siglip = model.config.model_type == "siglip"
    how: dict[str, Any] = {"padding": "max_length", "max_length": 16} if siglip else {"padding": True, "max_length": 12}
    made = words(TEXTS, truncation=True, return_tensors="pt", **how)
    given = {name: made[name] for name in (["input_ids"] if siglip else ["input_ids", "attention_mask"])}
    with torch.inference_mode():
        texts = rows(model.get_text_features(**given))
        seen = rows(model.get_image_features(**pixels(pictures, return_tensors="pt")))
    assert np.allclose(embedder.embed(TEXTS), texts, atol=1e-5)
    assert np.allclose(embedder.embed_pictures(pictures), seen, atol=1e-5)
    assert isinstance(embedder, PictureEmbedder)


def test_clip_does_not_depend_on_company(checkpoint: Path, pictures: list[Image.Image]) -> None:
    embedder = ClipEmbedder(checkpoint, device="cpu")
    together = embedder.embed([*TEXTS, *WORDS * 6])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(together[: len(TEXTS)], np.concatenate([embedder.embed([text]) for text in TEXTS]), atol=1e-5)
    seen = embedder.embed_pictures(pictures)
    assert np.allclose(seen[17:18], embedder.embed_pictures(pictures[17:18]), atol=1e-5)
    assert np.abs(seen[0] - seen[1]).max() > 1e-4
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(lambda number: embedder.embed(TEXTS[: number + 1]), range(4)):
            assert np.allclose(made, together[: len(made)], atol=1e-5)


def test_a_siglip_text_without_padding_would_get_another_vector(tmp_path: Path) -> None:
    """What it was trained on: an unpadded text is off by more than any rounding, a mask over the padding too."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = make_clip(tmp_path, "siglip")
    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ours = ClipEmbedder(folder, device="cpu").embed(["blue"])
    padded = words(["blue"], padding="max_length", max_length=16, return_tensors="pt")
    bare = words(["blue"], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert np.allclose(ours, rows(model.get_text_features(input_ids=padded["input_ids"])), atol=1e-5)
        for other in ({"input_ids": bare}, {name: padded[name] for name in ("input_ids", "attention_mask")}):
            assert np.abs(ours - rows(model.get_text_features(**other))).max() > 1e-3


def test_fingerprints_follow_weights_and_preprocessing(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "a", "clip")
    first = ClipEmbedder(folder).fingerprint
    (folder / "README.md").write_text("A card decides nothing.")
    assert ClipEmbedder(folder).fingerprint == first
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0, 0, 0]}))
    second = ClipEmbedder(folder).fingerprint
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert len({first, second, ClipEmbedder(folder).fingerprint}) == 3


def make_sentence(folder: Path, prompts: dict[str, str], pooling: str = "cls") -> Path:
    """A random BERT as sentence-transformers saves it."""
    import torch
    from transformers import BertConfig, BertModel

    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(0)
    bare = folder / "bare"
    BertModel(BertConfig(**SMALL, vocab_size=len(WORDS) + 4, max_position_embeddings=24)).save_pretrained(bare)
    tokenizer("[CLS]", "[SEP]").save_pretrained(bare)
    transformer = modules.Transformer(str(bare), max_seq_length=20)
    parts = [transformer, modules.Pooling(32, pooling), modules.Normalize()]
    library.SentenceTransformer(modules=parts, prompts=prompts, device="cpu").save(str(folder / "saved"))
    return folder / "saved"


def test_sentence_transformers_prompts_tell_questions_from_documents(tmp_path: Path) -> None:
    folder = make_sentence(tmp_path, {"query": "query ", "document": "document "})
    embedder = load_embedder(str(folder))
    assert isinstance(embedder, SentenceEmbedder) and not isinstance(embedder, PictureEmbedder)
    import sentence_transformers

    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    documents, questions = embedder.embed(TEXTS), embedder.embed_query(TEXTS)
    assert documents.shape == (4, 32) and documents.dtype == np.float32
    assert np.allclose(documents, theirs.encode(TEXTS, prompt="document "), atol=1e-5)
    assert np.allclose(questions, theirs.encode(TEXTS, prompt="query "), atol=1e-5)
    assert np.abs(documents - questions).max() > 1e-3
    with pytest.raises(ModelError, match="takes no pictures"):
        load_picture_embedder(str(folder))


def test_a_plain_bert_runs_without_the_library(tmp_path: Path) -> None:
    folder = make_sentence(tmp_path, {}, "mean")
    ours, theirs = load_embedder(folder), SentenceEmbedder(folder, device="cpu")
    assert isinstance(ours, MiniLM)
    assert (ours.embed(TEXTS) * theirs.embed(TEXTS)).sum(1).min() > 1 - 1e-3
    assert np.array_equal(theirs.embed_query(TEXTS), theirs.embed(TEXTS))


def test_a_changed_prompt_is_another_space(tmp_path: Path) -> None:
    first = make_sentence(tmp_path / "1", {"query": "query "})
    second = make_sentence(tmp_path / "2", {"query": "a "})
    assert SentenceEmbedder(first).fingerprint != SentenceEmbedder(second).fingerprint


def test_clip_through_sentence_transformers_is_clip(checkpoint: Path, pictures: list[Image.Image]) -> None:
    pytest.importorskip("sentence_transformers")
    through, alone = SentencePictureEmbedder(checkpoint, device="cpu"), ClipEmbedder(checkpoint, device="cpu")
    assert through.takes_pictures
    assert np.allclose(through.embed_pictures(pictures[:3]), alone.embed_pictures(pictures[:3]), atol=1e-5)
    assert np.allclose(through.embed(TEXTS), alone.embed(TEXTS), atol=1e-5)  # SigLIP's padding with it


def test_code_and_pickles_of_a_folder_are_refused(tmp_path: Path) -> None:
    folder = make_sentence(tmp_path, {})
    modules = json.loads((folder / "modules.json").read_text())
    evil = tmp_path / "evil"
    evil.mkdir()
    for file in folder.iterdir():
        (evil / file.name).symlink_to(file)

    def change(number: int, **values: str) -> None:
        (evil / "modules.json").unlink()
        changed = [{**each, **(values if index == number else {})} for index, each in enumerate(modules)]
        (evil / "modules.json").write_text(json.dumps(changed))

    change(1, type="os.path.Pooling")
    with pytest.raises(ModelError, match="never run"):
        SentenceEmbedder(evil).embed(["x"])
    change(1, path="../../elsewhere")
    with pytest.raises(ModelError, match="outside itself"):
        SentenceEmbedder(evil).embed(["x"])
    change(1)
    (evil / "model.safetensors").rename(evil / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        SentenceEmbedder(evil).embed(["x"])


def test_without_the_library_the_error_has_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"^the embedder .*install it with: pip install 'mmagent\[embed\]'$"):
        SentenceEmbedder(tmp_path).embed(["x"])


@pytest.fixture(scope="module", params=[1, 4])
def contrastive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network of our own with a contrastive head, with tiles and without."""
    import torch
    from transformers import AutoProcessor

    from mmagent.model import MMAgentConfig, MMAgentForConditionalGeneration
    from mmagent.model.processor import build_processor
    from mmagent.testing.checkpoints import tiny_vlm

    plain = tiny_vlm()
    config = MMAgentConfig.from_pretrained(plain, projection_dim=16, tiles=request.param)
    folder = tmp_path_factory.mktemp("contrastive")
    torch.manual_seed(0)
    MMAgentForConditionalGeneration(config).save_pretrained(folder)
    build_processor(AutoProcessor.from_pretrained(plain).tokenizer, config).save_pretrained(folder)
    return folder


def test_our_own_network_embeds_texts_and_pictures(contrastive: Path, pictures: list[Image.Image]) -> None:
    import torch

    from mmagent.engine.load import load

    embedder = load_picture_embedder(contrastive)
    assert isinstance(embedder, ContrastiveEmbedder)
    model, processor = (loaded := load(contrastive, "cpu", "float32")).model, loaded.processor
    texts, seen = embedder.embed([*TEXTS, ""]), embedder.embed_pictures(pictures)
    with torch.inference_mode():
        ids = processor.tokenizer("two cats on the table", return_tensors="pt")["input_ids"]
        one = model.embed_texts(ids).numpy()
        pixels = processor.image_processor([pictures[18].resize((32, 32), Image.Resampling.BICUBIC)])["pixel_values"]
        other = model.embed_images(torch.from_numpy(np.asarray(pixels))).numpy()
    assert np.allclose(texts[1], one[0], atol=1e-5)
    assert np.allclose(seen[18], other[0], atol=2e-2)
    assert texts.shape == (5, 16) and seen.shape == (20, 16) and np.isfinite(texts).all()
    assert np.allclose(seen[17:18], embedder.embed_pictures(pictures[17:18]), atol=1e-5)


@pytest.mark.nano
def test_nano_finds_pictures_by_what_they_show() -> None:
    embedder = load_picture_embedder("nano")
    shop = Path(__file__).parents[3] / "examples" / "shop"
    said = {"receipt": "a receipt of Lantern Lane", "label": "a parcel label of Swift Parcel", "lamp": "a red lamp"}
    seen = embedder.embed_pictures([Image.open(shop / f"{name}.png").convert("RGB") for name in said])
    scores = embedder.embed(list(said.values())) @ seen.T
    assert scores.argmax(1).tolist() == scores.argmax(0).tolist() == [0, 1, 2]


def test_a_network_without_a_head_has_no_picture_space(tmp_path: Path) -> None:
    headless = tiny_vlm()
    assert json.loads((headless / "config.json").read_text()).get("projection_dim") is None
    with pytest.raises(ModelError, match="has no picture space yet"):
        load_picture_embedder(str(headless))
    with pytest.raises(ModelError, match="no contrastive head"):
        ContrastiveEmbedder(headless).embed(["x"])


class Counting:
    """As LangChain's integrations are: two methods and a name."""

    model = "small"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[len(text), 3.0] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [3.0, len(text)]


class Broken(Counting):
    answer: Any = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


def test_langchain_embeddings_are_embedders() -> None:
    embedder = LangChainEmbedder(Counting())  # type: ignore[arg-type]
    assert np.allclose(embedder.embed(["four"]), [[0.8, 0.6]])
    assert np.allclose(embedder.embed_query(["four"]), [[0.6, 0.8]])
    larger = Counting()
    larger.model = "large"
    names = {LangChainEmbedder(each).fingerprint for each in (Counting(), Counting(), larger)}  # type: ignore[arg-type]
    assert len(names) == 2
    assert LangChainEmbedder(larger, "mine").fingerprint == LangChainEmbedder(Counting(), "mine").fingerprint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer", [RuntimeError("quota\nexceeded"), [], [[0.0, 0.0]], [[float("nan"), 1.0]], [[1], [1]]]
)
def test_langchain_embeddings_that_fail_say_so_in_one_line(answer: Any) -> None:
    broken = Broken()
    broken.answer = answer
    with pytest.raises(ModelError, match="Broken") as caught:
        LangChainEmbedder(broken).embed(["x"])  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_names_lead_to_embedders(checkpoint: Path) -> None:
    assert isinstance(load_embedder("minilm"), MiniLM)
    assert isinstance(load_embedder(checkpoint), ClipEmbedder)
    assert isinstance(load_picture_embedder(str(checkpoint)), ClipEmbedder)


@pytest.mark.parametrize(
    "name", ["", "minilmm", "./nowhere", "/nowhere/at/all", "~nobody/x", "org/model", "a\0b", "../.."]
)
def test_unknown_names_say_what_there_can_be(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load: Sequence[Any] = (load_embedder, load_picture_embedder)
    for each in load:
        with pytest.raises(MMAgentError, match="minilm, a folder") as caught:
            each(name)
        assert isinstance(caught.value, (NotFound, ModelError)) and "\n" not in str(caught.value)


def test_a_hub_id_is_found_in_the_cache_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    cache = tmp_path / "hub" / "models--org--small"
    commit = "0" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    saved = make_sentence(tmp_path, {"query": "query "})
    (cache / "snapshots").mkdir()
    pooling = next(saved.glob("1_*"))
    hidden = pooling.rename(tmp_path / "away")
    (cache / "snapshots" / commit).symlink_to(saved)
    with pytest.raises(NotFound, match="offline"):
        find_folder("org/small")
    hidden.rename(pooling)
    assert find_folder("org/small").resolve() == saved.resolve()
    assert load_embedder("org/small").embed(["blue"]).shape == (1, 32)


def test_online_a_hub_id_is_fetched_without_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    from mmagent.settings import settings

    asked: list[dict[str, Any]] = []

    def fetch(hub_id: str, **how: Any) -> str:
        asked.append(how)
        if hub_id == "org/away":
            raise ConnectionError("no\nroute")
        return str(tmp_path)

    monkeypatch.setenv("MMAGENT_OFFLINE", "false")
    settings.cache_clear()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert find_folder("org/model") == tmp_path
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in asked[0]["allow_patterns"])
    with pytest.raises(ModelError, match="org/away cannot be downloaded \\(no route\\)"):
        find_folder("org/away")
