"""Other people's tools, over the Model Context Protocol. Importing it is cheap; the protocol's SDK comes with first
use. It knows tools and media; it knows no model and no loop.

    server        MCPServer: what users make, and the tools that come of it
    connection    one live connection, in a thread and an event loop of its own
    transport     its messages, bounded, and HTTP
    child         a server that is a child process
    results       what a server answers, as what a tool may return
    foreign       names, descriptions and schemas that somebody else wrote, made safe
"""

from mmagent.agent.tools.mcp.server import MCPServer, Prompt, Resource

__all__ = ["MCPServer", "Prompt", "Resource"]
