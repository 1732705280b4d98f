"""What a command ends with: exit codes, and every error as one line. It knows errors and nothing of the commands.

0    done
1    it failed, or a tool crashed on the way
2    what the user gave, or a setting, cannot be used
3    the turn waits for an approval
70   a bug
130  interrupted
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmagent import errors
from mmagent.cli.printable import complain

FAILED = 1
UNUSABLE = 2
PAUSED = 3
BUG = 70
INTERRUPTED = 130


def exit_code(error: str) -> int:
    """The exit code for an error class of mmagent.errors, by its name."""
    kind = getattr(errors, error, errors.MMAgentError)
    return UNUSABLE if issubclass(kind, errors.InputError | errors.ConfigurationError) else FAILED


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn every exception into one line on stderr and an exit code; ``MMAGENT_DEBUG=1`` lets bugs through.

    Raises:
        SystemExit: Something was raised inside.
    """
    try:
        yield
    except errors.MMAgentError as error:
        _end(str(error), exit_code(type(error).__name__), error)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # which is what typer makes of Ctrl-C
            if sys.stderr.isatty():
                print(file=sys.stderr)  # the terminal wrote ^C
            complain("interrupted")
        raise
    except KeyboardInterrupt as error:
        _end("interrupted", INTERRUPTED, error)
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        raise SystemExit(FAILED) from error
    except Exception as error:
        if os.environ.get("MMAGENT_DEBUG"):
            raise
        what = f"unexpected {type(error).__name__}: {error}".rstrip(": ")
        _end(f"{what}; run again with MMAGENT_DEBUG=1 to see the traceback", BUG, error)


def _end(message: str, code: int, cause: BaseException) -> None:
    complain(message)
    raise SystemExit(code) from cause
