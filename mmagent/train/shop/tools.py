"""The tools that a shop's assistant may be offered: those it needs, and those it does not. It knows names, no results.

The names of some tools that no case needs are held out of training, as wordings are.
"""

from __future__ import annotations

import random
from typing import Any

from mmagent.train.sample import Tool
from mmagent.train.shop.phrases import is_held_out


def signature(name: str, required: dict[str, str], optional: dict[str, str] | None = None) -> Tool:
    """A tool as chat templates take it; types are JSON Schema's, or ``quoted``."""
    kinds = {
        key: {"type": "string", "x-quoted": True} if kind == "quoted" else {"type": kind}
        for key, kind in (required | (optional or {})).items()
    }
    parameters: dict[str, Any] = {"type": "object", "properties": kinds, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


def name_of(tool: Tool) -> str:
    """What a model calls it by."""
    return str(tool["function"]["name"])


BUILT_IN: tuple[Tool, ...] = (
    signature("read_text", {}, {"image": "integer"}),
    signature("look", {}, {"box": "array", "image": "integer"}),
    signature("calculate", {"expression": "string"}),
    signature("today", {}),
    signature("search_knowledge", {"query": "string"}),
)
SHOP_TOOLS: tuple[Tool, ...] = (
    signature("lookup_order", {"order_id": "quoted"}),
    signature("track_parcel", {"tracking": "quoted"}),
    signature("find_product", {"name": "string"}),
)
TOOLS: tuple[Tool, ...] = BUILT_IN + SHOP_TOOLS
"""The built-in tools in their order, then the shop's; a test holds them to the real tools' signatures."""

_SIMILAR = (
    signature("lookup_customer", {"email": "quoted"}),
    signature("order_history", {"customer": "quoted"}),
    signature("list_orders", {"customer": "quoted"}),
    signature("cancel_order", {"order_id": "quoted"}),
    signature("create_order", {"name": "string", "count": "integer"}),
    signature("updateAddress", {"order_id": "quoted", "address": "string"}),
    signature("refundOrder", {"order_id": "quoted", "amount": "number"}),
    signature("schedule_pickup", {"parcel": "quoted", "date": "string"}),
    signature("find_store", {"city": "string"}),
    signature("findSupplier", {"product": "string"}),
    signature("product_reviews", {"name": "string"}),
    signature("rate-product", {"name": "string", "stars": "integer"}),
    signature("search_mail", {"query": "string"}, {"folder": "string"}),
    signature("read_file", {"path": "string"}),
    signature("read-mail", {"number": "integer"}),
    signature("calculate_tax", {"amount": "number", "country": "string"}),
    signature("print_label", {"order_id": "quoted"}),
)
_OTHER = (
    signature("search_web", {"query": "string"}),
    signature("look_up_word", {"word": "string"}),
    signature("send_mail", {"to": "string", "text": "string"}),
    signature("sendMessage", {"to": "string", "text": "string"}),
    signature("weather", {"city": "string"}),
    signature("get_weather", {"city": "string"}, {"days": "integer"}),
    signature("open_ticket", {"text": "string"}),
    signature("close-ticket", {"ticket": "quoted"}),
    signature("translate", {"text": "string", "language": "string"}),
    signature("play_music", {"name": "string"}),
    signature("bookTable", {"place": "string", "people": "integer", "time": "string"}),
    signature("set_timer", {"minutes": "integer"}),
    signature("convert_currency", {"amount": "number", "to": "string"}),
    signature("GetNews", {"topic": "string"}),
    signature("add_note", {"text": "string"}, {"title": "string"}),
    signature("lights", {"on": "boolean"}),
    signature("call-back", {"phone": "quoted"}, {"time": "string"}),
    signature("find_flight", {"origin": "string", "destination": "string"}),
    signature("draw_picture", {"prompt": "string"}),
    signature("hr_request_leave", {"days": "integer"}),
)
DISTRACTORS: tuple[Tool, ...] = _SIMILAR + _OTHER
"""Tools that no case needs: some like those it does need, some of other trades, in several styles of names."""


def draw_distractors(rng: random.Random, share: float, *, of_trade: bool = False, held_out: bool = False) -> list[Tool]:
    """One to five tools that nothing needs, in that share of the draws.

    Args:
        rng: The only source of chance.
        share: From 0 to 1.
        of_trade: Only such as a shop has, where a tool of another trade could be what is asked for.
        held_out: Whether names that training never sees are among them.
    """
    if rng.random() >= share:
        return []
    pool = _SIMILAR if of_trade else DISTRACTORS
    return rng.sample([tool for tool in pool if held_out or not is_held_out(name_of(tool))], rng.randint(1, 5))
