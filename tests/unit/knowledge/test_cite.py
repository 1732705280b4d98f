from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmagent.knowledge import quote_for

POLICY = (
    "You can return an unused item within **30 days** of delivery. Lamps and bulbs have 14 days.\n"
    "Keep the receipt. We charge nothing.\n\n- Gift cards cannot be returned.\n- Food is refunded in 5 days."
)


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        ("You have 30 days to return it [1].", "You can return an unused item within **30 days** of delivery."),
        ("A lamp can go back for 14 days.", "Lamps and bulbs have 14 days."),
        ("Please keep your receipt", "Keep the receipt."),
        ("A gift card can't be returned.", "Gift cards cannot be returned."),
        ("Food: 5", "Food is refunded in 5 days."),
        ("zebra", "You can return an unused item within **30 days** of delivery."),
    ],
)
def test_the_sentence_that_supports_a_claim(claim: str, quote: str) -> None:
    assert quote_for(POLICY, claim) == quote


def test_two_sentences_where_the_claim_needs_both() -> None:
    quote = quote_for(POLICY, "Returns are taken for 30 days, lamps and bulbs for 14 days.")
    assert quote.startswith("You can return") and quote.endswith("have 14 days.")


@given(st.text(max_size=200), st.text(max_size=60))
def test_a_quote_is_always_verbatim(text: str, claim: str) -> None:
    quote = quote_for(text, claim)
    assert quote in text
    assert bool(quote) == bool(text.strip())
