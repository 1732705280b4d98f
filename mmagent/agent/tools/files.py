"""Python files of the user's become modules. It runs them and knows nothing of what is in them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from mmagent.errors import ConfigurationError, NotFound

PREFIX = "mmagent_tools_"
"""How the modules of such files are called; the rest is a hash of the path."""


def load_module(path: Path) -> ModuleType:
    """Run a Python file as a module; it may import its neighbours.

    Raises:
        NotFound: There is no such file.
        ConfigurationError: The file fails to run; the message names the line.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}; give the path of a Python file with tools")
    name = PREFIX + hashlib.sha256(str(path).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look it up there
    folder = str(path.parent)
    if added := folder not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigurationError(f"{path}, line {_line(error, path)}: {one_line(error)}") from error
    finally:
        if added and folder in sys.path:  # the last is ours, whatever the file did
            del sys.path[-1 - sys.path[::-1].index(folder)]
    return module


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 1
