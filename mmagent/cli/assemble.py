"""Builds the agent that the options of a command ask for, cheap checks first. It knows the agent's public names."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.cli.printable import tell
from mmagent.cli.stores import tell_left_out
from mmagent.errors import NotFound

if TYPE_CHECKING:
    from mmagent.agent import Agent, MCPServer
    from mmagent.agent.agent import Approve
    from mmagent.session import Session


@dataclass(frozen=True)
class Choices:
    """What a user chose; None is the agent's own default."""

    tools: tuple[Path, ...] = ()
    knowledge: Path | None = None
    model: str | None = None
    session: str | None = None
    instructions: str | None = None
    """Text, or the name of a prompt."""
    prompts: Path | None = None
    max_steps: int | None = None
    policy: Path | None = None
    mcp: tuple[str, ...] = ()
    """Addresses or commands of MCP servers."""
    plan: bool = False


def assemble(
    choices: Choices,
    *,
    session: Session | None = None,
    approve: Approve | None = None,
    say: Callable[[str], None] = tell,
) -> Agent:
    """The agent; close it after use.

    Args:
        choices: What the user chose.
        session: Its conversation; None: the one that was chosen.
        approve: Who is asked about calls; None: whoever is at the terminal, if anybody.
        say: Is told what is worth knowing beside.

    Raises:
        NotFound: A file, folder or model is not there.
        ConfigurationError: A tool file does not run, or a prompt cannot be used.
        StoreError: The session's journal or the knowledge store cannot be opened.
    """
    from mmagent.agent import Agent, Policy, load_tools
    from mmagent.chat import factory
    from mmagent.cli.approve import approve as ask_here
    from mmagent.cli.approve import can_ask
    from mmagent.prompts import names, render

    if choices.prompts and not choices.prompts.is_dir():
        raise NotFound(f"there is no folder {choices.prompts}; give the folder that your prompts are in")
    instructions = choices.instructions
    if instructions in names():
        instructions = render(instructions, choices.prompts)
    agent = Agent(
        tools=[*(tool for path in choices.tools for tool in load_tools(path)), *map(_server, choices.mcp)],
        model=factory.load_model(choices.model),
        instructions=instructions,
        knowledge=choices.knowledge,
        session=session or choices.session,
        prompts_dir=choices.prompts,
        max_steps=choices.max_steps,
        policy=Policy.load(choices.policy) if choices.policy else None,
        approve=approve or (ask_here if can_ask() else None),
        planning=choices.plan,
    )
    if choices.plan and agent.model.name == "nano":
        say("nano has not learnt to plan; --plan is for larger models (--model)")
    for rule in agent.policy.rules:
        if not any(rule.names(tool) for tool in agent.tools.values()):
            say(f"the policy's rule '{rule}' speaks of no tool that there is")
    if report := getattr(agent.knowledge, "report", None):
        tell_left_out(report.skipped, say)
    return agent


def _server(place: str) -> MCPServer:
    from mmagent.agent import MCPServer

    return MCPServer(url=place) if "://" in place else MCPServer(command=shlex.split(place))
