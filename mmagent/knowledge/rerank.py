"""How well passages answer a question, read together with it. It knows texts and scores, no stores and no ranks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mmagent.chat.local import LocalModel
    from mmagent.engine import Engine, Generation, Prompt

__all__ = ["CrossEncoder", "ModelReranker", "Reranker", "load_reranker"]

_BATCH = 32
_MAX_TOKENS = 1024
"""Of a question and a passage together, where a cross-encoder takes more."""
_CHARACTERS = 64
"""Characters that are looked at for each token a model takes."""

_INSTRUCTIONS = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
_QUESTION = (
    "<Instruct>: Given a search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n<Document>: {text}"
)
"""What Qwen3-Reranker was trained on (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B). The question comes before the
passage, so that its keys and values are computed once for all passages."""


class Reranker(Protocol):
    """What puts the passages that a search found into a better order."""

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well each text answers the query, ``[N]`` float32, higher is better; only their order means anything."""
        ...


def load_reranker(name: str | Path) -> Reranker:
    """The reranker of that name; it is loaded at its first use.

    Args:
        name: ``nano``, or a folder or hub id of a cross-encoder or of a model of language.

    Raises:
        NotFound: There is no model of that name on this machine.
        ModelError: The model is neither.
    """
    from mmagent.engine import checkpoint
    from mmagent.knowledge.embed.load import find_folder

    if name == "nano":
        from mmagent import nano

        return _model_reranker(nano.folder())
    folder = find_folder(name)
    kinds = checkpoint.read_config(folder).get("architectures")
    kind = str(kinds[0]) if isinstance(kinds, list) and kinds else ""
    if kind.endswith("ForSequenceClassification"):
        return CrossEncoder(folder)
    if kind.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")):
        return _model_reranker(folder)
    raise ModelError(
        f"{folder} is a {kind or 'model of no kind'}, which cannot rerank; give a cross-encoder "
        "(...ForSequenceClassification) or a model of language"
    )


class CrossEncoder:
    """A network that reads question and passage together and gives one number, as ms-marco-MiniLM and BGE's rerankers.

    Source: arXiv 1901.04085. Safe for threads.

    Args:
        folder: What ``save_pretrained`` wrote.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting. On a GPU it runs in 16 bits.
    """

    def __init__(self, folder: str | Path, *, device: str | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self._device = device
        self._loading, self._tokenizing = Lock(), Lock()

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """The network's logit of each text, ``[N]`` float32; a text that is too long is cut.

        Raises:
            NotFound: The folder has no model.
            ModelError: The model cannot be loaded, or gives more than one number.
            ConfigurationError: The device is not on this machine.
        """
        import numpy as np
        import torch

        with self._loading:
            tokenizer, model, limit = self._loaded
        scores = np.empty(len(texts), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            inputs = self._inputs(tokenizer, limit, query, [texts[index] for index in batch])
            with torch.inference_mode():
                scores[batch] = model(**inputs.to(model.device)).logits[:, 0].float().cpu().numpy()
        return scores

    def _inputs(self, tokenizer: Any, limit: int, query: str, texts: Sequence[str]) -> Any:
        pairs = [query[: limit * _CHARACTERS]] * len(texts), [text[: limit * _CHARACTERS] for text in texts]
        with self._tokenizing:  # it keeps how it pads as its own state
            return tokenizer(*pairs, padding=True, truncation="longest_first", max_length=limit, return_tensors="pt")

    @cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from mmagent.knowledge.embed.folder import LOCAL, explained, pick_device, pick_dtype, read_network

        place = pick_device(self._device)
        model = read_network(AutoModelForSequenceClassification, self.folder, pick_dtype(place)).to(place)
        if model.config.num_labels != 1:
            raise ModelError(
                f"{self.folder} sorts texts into {model.config.num_labels} classes and a reranker gives one number; "
                "choose a cross-encoder that was trained for ranking"
            )
        with explained(self.folder):
            tokenizer = AutoTokenizer.from_pretrained(str(self.folder), **LOCAL)
        if tokenizer.pad_token_id is None:
            raise ModelError(f"the tokenizer in {self.folder} has no padding token; choose another cross-encoder")
        model.config.pad_token_id = tokenizer.pad_token_id  # decoders look for the last token that is none
        return tokenizer, model, _limit(tokenizer, model.config)


class ModelReranker:
    """A model of language that is asked "yes" or "no" of each passage: the score is what its logits differ by.

    The passages run side by side in the model's own engine, and the question's part of the prompt runs once. Safe for
    threads; the model may chat meanwhile.

    Args:
        model: The model; it loads at its first use.
    """

    def __init__(self, model: LocalModel) -> None:
        self._model = model

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """logit(yes) − logit(no) of the next token for each text, ``[N]`` float32; a text that is too long is cut.

        Raises:
            ModelError: The model could not be loaded or could not go on (`ContextOverflow`: the query is too long).
        """
        import numpy as np

        engine = self._model.engine()
        yes, no = _answers(engine.loaded)
        scores: list[float] = []
        for start in range(0, len(texts), engine.max_rows):
            prompts = [self._prompt(engine, query, text) for text in texts[start : start + engine.max_rows]]
            scores += [float(logits[yes] - logits[no]) for logits in _next_logits(engine, prompts)]
        return np.array(scores, dtype=np.float32)

    def _prompt(self, engine: Engine, query: str, text: str) -> Prompt:
        """The question about one text, up to where the answer begins; the text is halved until it fits."""
        from mmagent.chat.protocol import ModelRequest
        from mmagent.content import Message
        from mmagent.content import text as block
        from mmagent.media import BlobStore

        context = engine.loaded.context_length
        text = text[: context * _CHARACTERS]
        while True:
            question = _QUESTION.format(query=query, text=text)
            messages = (
                Message(role="system", content=(block(_INSTRUCTIONS),)),
                Message(role="user", content=(block(question),)),
            )
            prompt = self._thought(engine, self._model.prompt(engine, ModelRequest(messages, BlobStore(Path()))))
            if len(prompt.ids) < context or not text:
                return prompt
            text = text[: len(text) // 2]

    def _thought(self, engine: Engine, prompt: Prompt) -> Prompt:
        """The prompt with an empty thought after it, where the model would think before it answers."""
        from mmagent.engine import Prompt

        profile = self._model.profile(engine.loaded)
        if profile.reasoning is None or not engine.network.reuses:
            return prompt
        opened, closed = profile.reasoning
        words = f"\n\n{closed}\n\n" if profile.reasoning_open else f"{opened}\n\n{closed}\n\n"
        ids = engine.loaded.tokenizer.encode(words, add_special_tokens=False)
        return Prompt([*prompt.ids, *ids], prompt.pictures, prompt.inputs)


def _answers(loaded: Any) -> tuple[int, int]:
    """The first tokens of yes and no."""
    yes, no = (loaded.tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no"))
    if yes == no:
        raise ModelError(f"{loaded.name} begins yes and no with the same token; rerank with another model")
    return yes, no


def _next_logits(engine: Engine, prompts: Sequence[Prompt]) -> list[torch.Tensor]:
    """The logits ``[V]`` after each prompt, all prompts in one running batch."""
    listeners = [_Listener() for _ in prompts]
    generations: list[Generation] = [
        engine.generate(prompt, grammar=_Free(), sampler=listener, max_tokens=1)  # type: ignore[arg-type]
        for prompt, listener in zip(prompts, listeners, strict=True)
    ]
    try:
        for generation in generations:
            engine.join(generation)
        for generation in generations:
            list(generation)
    finally:
        for generation in generations:
            engine.leave(generation)
    return [listener.logits for listener in listeners]


class _Listener:
    """Stands where a sampler must, and keeps what it is given."""

    logits: torch.Tensor

    def sample(self, logits: torch.Tensor) -> int:
        self.logits = logits.float().clone()
        return 0


class _Free:
    """Stands where a grammar must, and allows everything."""

    done = False

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def accept(self, token: int) -> None:
        """Any token will do."""

    def forced(self) -> list[int]:
        return []


def _limit(tokenizer: Any, config: Any) -> int:
    """Tokens of question and passage together."""
    places = int(getattr(config, "max_position_embeddings", None) or _MAX_TOKENS)
    if "roberta" in config.model_type:
        places -= int(config.pad_token_id) + 1  # their positions begin after the padding's
    return max(8, min(int(tokenizer.model_max_length), places, _MAX_TOKENS))


def _model_reranker(folder: Path) -> ModelReranker:
    from mmagent.chat.local import LocalModel

    return ModelReranker(LocalModel(folder))
