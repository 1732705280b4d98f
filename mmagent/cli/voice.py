"""``mmagent voice``: a conversation by voice, with a microphone or from a recording. It knows options and lines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmagent.cli.options import (
    Instructions,
    KnowledgeDir,
    Mcp,
    Model,
    Policy,
    Prompts,
    Quiet,
    SessionName,
    Tools,
    Verbose,
)

if TYPE_CHECKING:
    from mmagent.cli.assemble import Choices
    from mmagent.cli.view import View
    from mmagent.speech.engines import Engine
    from mmagent.speech.play import Player
    from mmagent.speech.record import Recorder
    from mmagent.speech.turn import Detector
    from mmagent.speech.voice import VoiceEvent

_METER = " ▁▂▃▄▅▆▇█"
_CLEAR = "\r\x1b[K"


def voice(
    push_to_talk: Annotated[
        bool, typer.Option("--push-to-talk", help="Enter begins and ends what you say, not a pause.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Hear a recording, not the microphone.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Say the answers into a WAV file, not aloud.")
    ] = None,
    speaks: Annotated[
        str | None,
        typer.Option("--voice", metavar="NAME", help="espeak:LANGUAGE, piper:FILE, kokoro:FOLDER:VOICE, or none."),
    ] = None,
    voices: Annotated[
        bool, typer.Option("--voices", help="List the languages that espeak-ng speaks, and end.")
    ] = False,
    language: Annotated[
        str | None, typer.Option("--language", metavar="CODE", help="What you speak, e.g. en; heard if left out.")
    ] = None,
    tools: Tools = None,
    knowledge: KnowledgeDir = None,
    model: Model = None,
    session: SessionName = None,
    instructions: Instructions = None,
    prompts: Prompts = None,
    policy: Policy = None,
    mcp: Mcp = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Talk and hear the answers. Speaking over an answer stops it."""
    from mmagent.cli.assemble import Choices
    from mmagent.errors import InputError

    if voices:
        from mmagent.speech.speak import espeak_voices

        print("\n".join(f"espeak:{name}" for name in espeak_voices()))
        return
    if push_to_talk and (file or not sys.stdin.isatty()):
        raise InputError("--push-to-talk needs a terminal and a microphone; leave it out")
    choices = Choices(
        tuple(tools or ()), knowledge, model, session, instructions, prompts, None, policy, tuple(mcp or ())
    )
    talker = Talker(choices, file, out, speaks, language, push_to_talk=push_to_talk, quiet=quiet, verbose=verbose)
    raise typer.Exit(talker.talk())


class Talker:
    """Puts a conversation together and shows it: what is heard on stderr, as are the steps, the answers on stdout."""

    def __init__(
        self,
        choices: Choices,
        file: Path | None,
        out: Path | None,
        speaks: str | None,
        language: str | None,
        *,
        push_to_talk: bool = False,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self._choices, self._file, self._out = choices, file, out
        self._speaks, self._language, self._push = speaks, language, push_to_talk
        self._quiet, self._verbose = quiet, verbose
        self._view: View | None = None
        self._partial = sys.stderr.isatty() and not quiet
        self._code = 0

    def talk(self) -> int:
        """Until the recording ends, or Ctrl-C; gives the exit code.

        Raises:
            MMAgentError: The conversation cannot begin, or a device or the engine failed.
        """
        from mmagent.cli.assemble import assemble
        from mmagent.speech.engines import Ask
        from mmagent.speech.language import check_language
        from mmagent.speech.speak import load_voice

        recorder = self._recorder()
        engine = load_ears()
        said_by = load_voice(self._speaks, self._language)
        ask = Ask(language=check_language(self._language, engine.languages))
        with ExitStack() as stack:
            player = self._player(stack)
            agent = stack.enter_context(assemble(self._choices))

            async def whole() -> None:
                from mmagent.session.cut import cut_answer
                from mmagent.speech.live import Live
                from mmagent.speech.turn import Listener
                from mmagent.speech.voice import talk

                with push_key() if self._push else nullcontext() as held:
                    listener = Listener(recorder, Live(engine, ask), load_detector(), held=held)
                    self._say("Enter begins and ends what you say; Ctrl-C ends the conversation" if self._push else "")
                    show = self._show(recorder)
                    keep = partial(cut_answer, agent.session)
                    await talk(listener, agent, said_by, player, show=show, keep=keep)

            asyncio.run(whole())
        return self._code

    def _recorder(self) -> Recorder:
        from mmagent.errors import NotFound
        from mmagent.media.limits import check_bytes
        from mmagent.media.sound import waveform
        from mmagent.settings import settings
        from mmagent.speech.record import Microphone, Recording

        if self._file is None:
            return Microphone()
        if not self._file.is_file():
            raise NotFound(f"there is no file {self._file}; give the path of a recording on this machine")
        check_bytes(self._file.stat().st_size, str(self._file), settings(), "recording")
        return Recording(waveform(self._file.read_bytes(), str(self._file)))

    def _player(self, stack: ExitStack) -> Player:
        from mmagent.speech.play import Loudspeaker, NullPlayer, WavPlayer

        if self._out is not None:
            return stack.enter_context(WavPlayer(self._out))
        return NullPlayer() if self._speaks == "none" else Loudspeaker()

    def _show(self, recorder: Recorder) -> Callable[[VoiceEvent], None]:
        from mmagent.cli.outcome import FAILED
        from mmagent.cli.view import TerminalView
        from mmagent.events import TurnFailed
        from mmagent.speech.turn import Began, Ended, Final, Heard
        from mmagent.speech.voice import Interrupted

        def show(event: VoiceEvent) -> None:
            if isinstance(event, Began | Heard):
                self._hear(event.hearing.text if isinstance(event, Heard) else "", recorder.level)
            elif isinstance(event, Final):
                self._say(f"> {event.text}" if event.text else "(nothing was understood)")
                self._view = TerminalView(quiet=self._quiet, verbose=self._verbose)
            elif isinstance(event, Interrupted):
                self._say("(interrupted)")
            elif not isinstance(event, Ended) and self._view is not None:
                self._code = FAILED if isinstance(event, TurnFailed) else self._code
                self._view.show(event)

        return show

    def _hear(self, text: str, level: float) -> None:
        """What has been heard so far, in one line with a meter."""
        if self._partial:
            from mmagent.cli.printable import printable

            meter = _METER[round(level * (len(_METER) - 1))]
            print(f"{_CLEAR}{meter} {printable(text)[-100:]}", end="", file=sys.stderr, flush=True)

    def _say(self, line: str) -> None:
        if line and not self._quiet:
            from mmagent.cli.printable import printable

            print(f"{_CLEAR if self._partial else ''}{printable(line)}", file=sys.stderr, flush=True)


def load_ears() -> Engine:
    """The engine of the settings, else nano.

    Raises:
        ConfigurationError: None is set and nano is not in this installation, or it lacks something.
        NotFound: It is not there.
    """
    from mmagent.settings import settings
    from mmagent.speech.engines.load import chosen, load_engine

    return load_engine(chosen(), settings().device)


def load_detector() -> Detector:
    """The best detector of speech that is installed."""
    from mmagent.speech.vad import load_vad

    return load_vad()


@contextmanager
def push_key() -> Iterator[Callable[[], bool]]:
    """Whether the key counts as down: Enter presses it, and releases it the next time."""
    down = [False]

    def pressed() -> None:
        if sys.stdin.readline():
            down[0] = not down[0]

    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, pressed)
    try:
        yield lambda: down[0]
    finally:
        loop.remove_reader(sys.stdin)
