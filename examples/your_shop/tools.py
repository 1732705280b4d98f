"""The tools of a small library: reserve a book, renew a loan, opening hours."""

from typing import Any, Literal

from mmagent import Quoted, ToolError, tool

BRANCHES = ("Old Mill", "Harbour", "Station")
Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


@tool(effect="idempotent")
def reserve_book(title: Quoted, card: Quoted) -> dict[str, Any]:
    """Reserve a book for a reader.

    Args:
        title: The book's title, as the reader writes it.
        card: The number of the reader's library card.
    """
    return {"branch": BRANCHES[len(title) % 3], "ready": f"2026-05-{len(title + card) % 20 + 10}"}


@tool(effect="idempotent")
def renew_loan(loan: Quoted) -> dict[str, Any]:
    """Renew a loan.

    Args:
        loan: The number of the loan, which begins with L.
    """
    if not loan.startswith("L"):
        raise ToolError(f"there is no loan {loan}")
    return {"due": f"2026-06-{int(loan[-2:]) % 20 + 10}"}


@tool(effect="read")
def opening_hours(day: Day) -> dict[str, str]:
    """When the library is open.

    Args:
        day: The day of the week.
    """
    return {"opens": "10:00" if len(day) > 6 else "09:00", "closes": "14:00" if day[0] == "S" else "18:30"}
