"""The date. It knows the clock of this machine and nothing else."""

from __future__ import annotations

from datetime import date

from mmagent import tool

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@tool(effect="read", untrusted=False)
def today() -> str:
    """Today's date and day of the week."""
    day = date.today()
    return f"{day.isoformat()}, {WEEKDAYS[day.weekday()]}"
