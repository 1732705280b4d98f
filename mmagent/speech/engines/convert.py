"""One checkpoint of Whisper in the files of each engine. It knows names of weights and files, no sound.

transformers   a folder: model.safetensors, config.json, generation_config.json, tokenizer.json
openai         a file NAME.pt: dimensions and weights; the vocabulary is in the package
ctranslate2    a folder for faster-whisper: model.bin, config.json, vocabulary.json, tokenizer.json
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from mmagent.engine import checkpoint
from mmagent.errors import ConfigurationError, InputError, MissingExtra, NotFound
from mmagent.speech.engines.folder import check_files, loading
from mmagent.speech.engines.original import EXTRAS, read_checkpoint
from mmagent.speech.engines.tokens import FIRST_WITHIN, MULTILINGUAL
from mmagent.speech.engines.transformers import FILES, WEIGHTS, check_architecture, read_model, read_tokenizer

Kind = Literal["transformers", "openai", "ctranslate2"]

_NAMES = (
    ("encoder.ln_post", "encoder.layer_norm"),
    ("decoder.ln", "decoder.layer_norm"),
    ("positional_embedding", "embed_positions.weight"),
    ("token_embedding", "embed_tokens"),
    ("blocks", "layers"),
    ("attn_ln", "self_attn_layer_norm"),
    ("cross_attn_ln", "encoder_attn_layer_norm"),
    ("mlp_ln", "final_layer_norm"),
    ("attn", "self_attn"),
    ("cross_attn", "encoder_attn"),
    ("query", "q_proj"),
    ("key", "k_proj"),
    ("value", "v_proj"),
    ("out", "out_proj"),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
)
"""Parts of the names of weights: openai-whisper's and transformers'."""
_DIMENSIONS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}


def convert(source: str | Path, target: str | Path, to: Kind = "ctranslate2") -> Path:
    """Write a checkpoint for another engine, in the precision that it has.

    Args:
        source: A folder that ``save_pretrained`` wrote, or a ``.pt`` file of openai-whisper.
        target: A folder, or for ``openai`` a file; it must not be there yet.
        to: What to write. ``ctranslate2`` needs the extra ``fast``, and a ``.pt`` file as source the extra ``whisper``.

    Returns:
        The target.

    Raises:
        NotFound: There is no source.
        InputError: The target is there, or the kinds do not go together.
        ConfigurationError: Something is missing in the source, or the other engine has no place for such a network.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    _check_ways(source, target, to)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = source
        if source.is_file():
            folder = Path(scratch) / "transformers"
            _from_openai(source, folder)
        else:
            check_files(source, (*FILES, WEIGHTS), "a Whisper that save_pretrained wrote")
            check_architecture(checkpoint.read_config(source), source)
        made = folder if to == "transformers" else Path(scratch) / "made"
        if to == "openai":
            _to_openai(folder, made)
        elif to == "ctranslate2":
            _to_ctranslate2(folder, made)
        made.rename(target)
    return target


def _check_ways(source: Path, target: Path, to: Kind) -> None:
    if to not in get_args(Kind):
        raise InputError(f"there is no format {to!r:.40}; give one of: {', '.join(get_args(Kind))}")
    if not source.exists():
        raise NotFound(f"there is no {source}; give a folder that save_pretrained wrote, or a .pt file")
    if target.exists():
        raise InputError(f"{target} is there already; give another name, or remove it first")
    if (source.is_file() and to == "openai") or (source.is_dir() and to == "transformers"):
        raise InputError(f"{source} is of the format {to} already; give another format")
    if (source / "model.bin").is_file() and not (source / checkpoint.WEIGHTS).is_file():
        raise InputError(f"{source} is of CTranslate2, which cannot be turned back; give what it was made from")


def _to_openai(folder: Path, file: Path) -> None:
    import torch

    config, options = checkpoint.read_config(folder), checkpoint.read_json(folder / "generation_config.json")
    dims = {name: int(config[ours]) for name, ours in _DIMENSIONS.items()}
    if not MULTILINGUAL - 1 <= dims["n_vocab"] <= MULTILINGUAL + 1:
        raise ConfigurationError(
            f"{folder} has a vocabulary of {dims['n_vocab']:,} tokens, and openai-whisper knows only its own of "
            f"{MULTILINGUAL - 1:,} to {MULTILINGUAL + 1:,}; run this model with transformers or faster-whisper"
        )
    if {int(config["encoder_ffn_dim"]), int(config["decoder_ffn_dim"])} != {4 * dims["n_text_state"]}:
        raise ConfigurationError(
            f"the perceptrons of {folder} are not four times as wide as its layers, which openai-whisper expects; "
            "run this model with transformers or faster-whisper"
        )
    with loading(folder):
        weights = read_model(folder).state_dict()
    named = {_renamed(name, to_ours=False): tensor for name, tensor in weights.items() if name != "proj_out.weight"}
    made = {"dims": dims, "model_state_dict": named}
    # openai-whisper passes over more; our engine does not, and says the same words
    torch.save({**made, **{name: options[name] for name in EXTRAS if options.get(name)}}, file)


def _from_openai(file: Path, folder: Path) -> None:
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    try:
        from whisper.tokenizer import get_tokenizer
    except ImportError as error:
        raise MissingExtra("the vocabulary of a .pt file", "whisper") from error
    found = read_checkpoint(file)
    dims = found["dims"]
    multilingual = dims["n_vocab"] >= MULTILINGUAL
    theirs = get_tokenizer(multilingual, num_languages=dims["n_vocab"] - 51765 - int(multilingual))
    special, end = theirs.special_tokens, theirs.eot
    common = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": theirs.sot,
    }
    config = WhisperConfig(
        **{ours: dims[name] for name, ours in _DIMENSIONS.items()},
        encoder_ffn_dim=4 * dims["n_audio_state"],
        decoder_ffn_dim=4 * dims["n_text_state"],
        **common,
    )
    with loading(file):
        model = WhisperForConditionalGeneration(config)
        named = {_renamed(name, to_ours=True): tensor for name, tensor in found["model_state_dict"].items()}
        dtype = next(iter(named.values())).dtype
        model.load_state_dict({**named, "proj_out.weight": named["model.decoder.embed_tokens.weight"]})
    options: dict[str, Any] = {**common, **whisper_options(special, theirs.non_speech_tokens, multilingual)}
    options |= {name: found[name] for name in EXTRAS if name in found}
    model.generation_config = GenerationConfig(**options, max_length=dims["n_text_ctx"])
    with checkpoint.quiet():
        model.to(dtype).save_pretrained(folder)
    ranks = {theirs.encoding.decode_single_token_bytes(token): token for token in range(end)}
    whisper_tokenizer(ranks, sorted(special, key=special.__getitem__)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=dims["n_mels"]).save_pretrained(folder)


def _to_ctranslate2(folder: Path, target: Path) -> None:
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise MissingExtra("faster-whisper's format", "fast") from error
    with loading(folder), checkpoint.quiet():
        TransformersConverter(str(folder)).convert(str(target))
        read_tokenizer(folder).save(str(target / "tokenizer.json"))
    if (file := folder / "generation_config.json").is_file():
        shutil.copy(file, target)
    if (file := folder / "preprocessor_config.json").is_file():
        shutil.copy(file, target)
    else:
        mels = checkpoint.read_config(folder)["num_mel_bins"]
        (target / "preprocessor_config.json").write_text(json.dumps({"feature_size": mels}) + "\n", encoding="utf-8")


def _renamed(name: str, to_ours: bool) -> str:
    """A weight's name in transformers, or in openai-whisper."""
    name = name.removeprefix("model.")
    for pair in _NAMES:
        old, new = pair if to_ours else pair[::-1]
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name)
    return f"model.{name}" if to_ours else name


def whisper_options(special: Mapping[str, int], symbols: Iterable[int], multilingual: bool) -> dict[str, Any]:
    """What a ``generation_config.json`` of Whisper says of its vocabulary.

    Args:
        special: The special tokens.
        symbols: Tokens that are not spoken.
        multilingual: Whether prompts name language and task.
    """
    start, translate = special["<|startoftranscript|>"], special["<|translate|>"]
    unspoken = {*symbols, start, *range(translate, special["<|notimestamps|>"])}
    options: dict[str, Any] = {
        "is_multilingual": multilingual,
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "max_initial_timestamp_index": FIRST_WITHIN,
        "suppress_tokens": sorted(unspoken),
        "begin_suppress_tokens": [220, special["<|endoftext|>"]],
    }
    if multilingual:
        options["lang_to_id"] = {name: token for name, token in special.items() if start < token < translate}
        options["task_to_id"] = {task: special[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return options


def whisper_tokenizer(ranks: Mapping[bytes, int], special: Iterable[str]) -> Any:
    """A ``WhisperTokenizer`` of byte pairs by their ranks, as tiktoken has them.

    Args:
        ranks: Bytes of each token; the lower, the sooner they are joined.
        special: What follows them, in order, the end first.
    """
    from transformers import WhisperTokenizer

    letters = byte_letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = []
    for token, rank in sorted(ranks.items(), key=lambda pair: pair[1]):
        if len(token) > 1:
            left, right = _halves(token, ranks, rank)
            merges.append((spelled(left), spelled(right)))
    names, vocab = list(special), {spelled(token): rank for token, rank in ranks.items()}
    tokenizer: Any = WhisperTokenizer(vocab=vocab, merges=merges, pad_token=names[0])
    is_time = [bool(re.fullmatch(r"<\|\d+\.\d\d\|>", name)) for name in names]
    marks = [name for name, timed in zip(names, is_time, strict=True) if not timed]
    tokenizer.add_tokens(marks, special_tokens=True)
    tokenizer.add_tokens([name for name, timed in zip(names, is_time, strict=True) if timed])
    return tokenizer


def _halves(token: bytes, ranks: Mapping[bytes, int], rank: int) -> tuple[bytes, bytes]:
    """The two tokens that a token was joined of: its bytes, joined by all ranks below its own."""
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(parts[place] + parts[place + 1], rank) for place in range(len(parts) - 1)]
        place = min(range(len(pairs)), key=pairs.__getitem__)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def byte_letters() -> dict[int, str]:
    """How byte-level BPE spells each byte: printable ones as they are, others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(0x100 + place) for place, byte in enumerate(others)}}
