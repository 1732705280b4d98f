"""Every error is one line and has its exit code."""

from __future__ import annotations

import pytest

from mmagent import errors
from mmagent.cli.outcome import exit_code, one_line_errors


def ends(error: BaseException) -> int:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("x"), 2),
        (errors.NotFound("x"), 2),
        (errors.LimitError("x"), 2),
        (errors.ConfigurationError("x"), 2),
        (errors.MissingExtra("speech", "fast"), 2),
        (errors.ModelError("x"), 1),
        (errors.StoreLocked("x"), 1),
        (errors.TurnError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 70),
    ],
)
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_message_of_many_lines_becomes_one(capsys: pytest.CaptureFixture[str]) -> None:
    ends(errors.StoreError("a\nb\x1b[31m"))
    assert capsys.readouterr().err == "error: a b\\x1b[31m\n"


def test_a_bug_says_how_to_see_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ends(KeyError("order"))
    line = "error: unexpected KeyError: 'order'; run again with MMAGENT_DEBUG=1 to see the traceback\n"
    assert capsys.readouterr().err == line
    monkeypatch.setenv("MMAGENT_DEBUG", "1")
    with pytest.raises(KeyError), one_line_errors():
        raise KeyError("order")


def test_unknown_names_count_as_failures() -> None:
    assert exit_code("SomethingElse") == 1
    assert exit_code("MediaError") == 2
