"""Whether a text is an answer that a grammar allows. It knows tokens, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.engine import Vocabulary


def accepts(vocabulary: Vocabulary, text: str, **grammar: Any) -> bool:
    """Whether ``text``, control tokens in it real ones, is a whole answer under ``Grammar(vocabulary, **grammar)``.

    Raises:
        AssertionError: The grammar's mask and its `allows` do not agree.
    """
    import torch

    from mmagent.engine import Grammar

    state = Grammar(vocabulary, **grammar)
    for token in vocabulary.ll.tokenize_str(text, parse_special=True):
        allowed = bool(state.mask(torch.zeros(vocabulary.width))[token] > -torch.inf)
        assert state.allows([token]) == int(allowed)
        if not allowed:
            return False
        state.accept(token)
    return bool(state.mask(torch.zeros(vocabulary.width))[vocabulary.ends[0]] == 0)
