"""The terminal app for browsers on this machine: textual-serve, for its own page only."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server


class Local(Server):
    """Refuses the pages of others: a browser lets any page that it shows open a socket to this machine."""

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """The socket of an app.

        Raises:
            HTTPForbidden: Another page asks for it.
        """
        origin = urlsplit(request.headers.get("Origin", ""))
        if origin.hostname not in (self.host, "localhost") or (origin.port or 80) != self.port:
            raise web.HTTPForbidden(text="only the page of this server may use the assistant")
        return await super().handle_websocket(request)
