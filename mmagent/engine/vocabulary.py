"""Tokens as bytes: what each id spells, which ids are control tokens, which end a turn. It knows no grammar and no
network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmagent.errors import ModelError

if TYPE_CHECKING:
    from llguidance import LLTokenizer


class Vocabulary:
    """A tokenizer's ids as the grammar and the streamed text see them.

    Control tokens are the special ones and those that were added in angle brackets (Qwen's ``<tool_call>`` is not
    flagged as special): no text can spell them.

    Args:
        tokenizer: A fast tokenizer of transformers.
        size: Width of the network's logits, where it is larger than the tokenizer's vocabulary.
        ends: Ids that end a turn, the usual one first.

    Raises:
        ModelError: The tokenizer is no fast one or has no end token.
    """

    def __init__(self, tokenizer: Any, size: int | None = None, ends: Sequence[int] = ()) -> None:
        from llguidance.hf import from_tokenizer

        self.ends = tuple(dict.fromkeys(end for end in (tokenizer.eos_token_id, *ends) if end is not None))
        if not self.ends:
            raise ModelError("the tokenizer has no end token, so no answer would end; set eos_token in its config")
        self.width = max(size or 0, len(tokenizer))
        """Of a mask, in tokens: ``V``."""
        try:
            self.ll: LLTokenizer = from_tokenizer(tokenizer, n_vocab=self.width, eos_token=list(self.ends))
        except ValueError as error:
            raise ModelError(f"the tokenizer cannot be used for grammars ({error}); use a fast tokenizer") from error
        template = getattr(tokenizer, "chat_template", None)
        self.template: str = template if isinstance(template, str) else ""
        """The chat template, empty where there is none."""
        added = tokenizer.added_tokens_decoder.items()
        self._specials = {token.content: id for id, token in added if token.special}
        self._controls: dict[str, int] = {
            token.content: id for id, token in added if self.ll.is_special_token(id)
        } | self._specials
        self._control_ids = frozenset(self._controls.values())
        self._pieces: dict[int, bytes] = {}

    def special(self, text: str) -> int | None:
        """The id of a token that is flagged as special, or None where ``text`` is none."""
        return self._specials.get(text)

    def is_special(self, token: int) -> bool:
        """Whether a token is a control token, not text."""
        return token in self._control_ids

    def split(self, mark: str) -> list[int | str]:
        """A mark as control tokens, where the vocabulary has them, and the text around them."""
        parts = self._control_pattern.split(mark)
        return [self._controls.get(part, part) for part in parts if part]

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a text token spells; empty for a control token."""
        return b"" if token in self._control_ids else self.piece(token)

    def piece(self, token: int) -> bytes:
        """Like `bytes_of`, but a control token is a mark that no text can spell (0xFF is no UTF-8)."""
        piece = self._pieces.get(token)
        if piece is None:
            control = token in self._control_ids
            piece = b"\xff%d\xff" % token if control else self.ll.decode_bytes([token])
            self._pieces[token] = piece
        return piece

    def spell(self, tokens: Iterable[int]) -> bytes:
        """All `piece`s, joined: equal exactly where text and control tokens are equal."""
        return b"".join(map(self.piece, tokens))

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(filter(None, self._controls), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
