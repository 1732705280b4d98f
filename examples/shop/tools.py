"""The tools of a small shop: orders, parcels and products out of shop.json beside this file."""

import json
from pathlib import Path
from typing import Any

from mmagent import Quoted, ToolError, tool

SHOP: dict[str, dict[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_name("shop.json").read_text(encoding="utf-8")
)


@tool(effect="read")
def lookup_order(order_id: Quoted) -> dict[str, Any]:
    """Look an order up by its number.

    Args:
        order_id: The order number, as the customer or the receipt gives it.
    """
    return found("order", SHOP["orders"], order_id)


@tool(effect="read")
def track_parcel(tracking: Quoted) -> dict[str, Any]:
    """Find out where a parcel is.

    Args:
        tracking: The tracking number, as the customer or the label gives it.
    """
    return found("parcel", SHOP["parcels"], tracking)


@tool(effect="read")
def find_product(name: str) -> dict[str, Any]:
    """Price and stock of a product.

    Args:
        name: What the product is called, in the singular.
    """
    return found("product", SHOP["products"], name)


def found(kind: str, records: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    """The record under ``key``, or an error that the model is told."""
    key = key.strip()
    if key not in records:
        raise ToolError(f"there is no {kind} {key}")
    return records[key]
