"""What is said in a recording or video of the conversation, with times. It knows recordings, and no speech model."""

from __future__ import annotations

from mmagent import MMAgentError, ToolContext, ToolError, ToolResult, tool
from mmagent.agent.hearing import find, lines


@tool(effect="read", untrusted=True, timeout=600)
def transcribe(ctx: ToolContext, recording: str = "") -> ToolResult:
    """Write down what is said in a recording or video, with times.

    Args:
        recording: Its number in the conversation, 1 is the first, or its name or file id; the latest if left out.
    """
    if ctx.transcriber is None or ctx.blobs is None:
        raise ToolError("there is no speech model here; whoever runs this agent can set MMAGENT_SPEECH_MODEL")
    try:
        block = find(ctx.recordings, recording)
        transcript = ctx.transcriber.transcribe(ctx.blobs.get(block["file_id"]))
    except MMAgentError as error:
        raise ToolError(str(error)) from error
    segments = [{"t0": one.t0, "t1": one.t1, "text": one.text} for one in transcript.segments]
    return ToolResult(
        content=lines(transcript) or "nobody speaks in the recording",
        data={"file_id": block["file_id"], "seconds": transcript.duration, "segments": segments},
    )
