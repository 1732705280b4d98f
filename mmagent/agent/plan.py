"""Planning: the tool that a model writes its plan with, and when it must. It knows tools and states, and runs nothing.

The plan is kept by the session: whoever runs the tool journals its steps and tells of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter

from mmagent.agent.tools import AnyTool, tool
from mmagent.chat.protocol import Capabilities
from mmagent.content import is_correction
from mmagent.events import PlanStep

if TYPE_CHECKING:
    from mmagent.session.replay import State

UPDATE_PLAN = "update_plan"
MAX_STEPS = 20

Steps = Annotated[list[PlanStep], Field(min_length=1, max_length=MAX_STEPS)]


@lru_cache(maxsize=1)
def planning_tool() -> AnyTool:
    """The tool that writes and revises the plan."""

    def update_plan(steps: Steps) -> str:
        """Write or revise the plan.

        Args:
            steps: The whole plan, in order. A step is pending, active or done.
        """
        done = sum(step.status == "done" for step in steps)
        return f"plan noted: {done} of {len(steps)} steps done"

    return tool(effect="read", untrusted=False, name=UPDATE_PLAN)(update_plan)


def plan_of(args: dict[str, Any]) -> tuple[PlanStep, ...]:
    """The steps in the arguments of a call of the tool.

    Raises:
        ValidationError: pydantic's, where they do not follow its schema.
    """
    return tuple(_STEPS.validate_python(args.get("steps")))


_STEPS: TypeAdapter[list[PlanStep]] = TypeAdapter(Steps)


def plan_call(state: State, capabilities: Capabilities) -> bool | str:
    """What `require_call` is for an agent that plans: the tool's name in the first step of a turn without a plan.

    Only of models whose answers a grammar holds: a small one then really plans. The others are asked in their prompt.
    """
    if not (capabilities.constrained and capabilities.tools) or not state.messages:
        return False
    last = state.messages[-1]
    begins = last.role == "user" and not is_correction(last)
    return UPDATE_PLAN if begins and not state.planned else False
