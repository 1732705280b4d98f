from __future__ import annotations

import time

import pytest
from pydantic import SecretStr, TypeAdapter
from typing_extensions import TypedDict

from mmagent.redact import MASK, has_secrets, redact, redact_error, redacted, remember, without_secrets

CANARY = "canary-9f8e7d6c5b"


@pytest.mark.parametrize("name", ["SHOP_API_KEY", "GITHUB_TOKEN", "CLIENT_SECRET", "DB_PASSWORD", "MY_CREDENTIALS"])
def test_values_of_secret_variables_are_masked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, CANARY)
    assert redact(f"401 for {CANARY}, sorry") == f"401 for {MASK}, sorry"
    assert CANARY not in redact(f"prefix{CANARY}suffix")


def test_other_variables_and_everyday_values_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_CITY", "Berlin")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("PIN_TOKEN", "1234")
    said = "Berlin is false, and 12345 is no PIN"
    assert redact(said) == said
    assert redact("PIN 1234!") == f"PIN {MASK}!"


def test_a_secret_is_found_as_json_python_and_addresses_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import json
    from urllib.parse import quote

    secret = 'p"w\\d/é x1 & more'
    monkeypatch.setenv("DB_PASSWORD", secret)
    for written in (secret, json.dumps(secret), repr(secret), quote(secret, safe="")):
        assert redact(f"<{written}>").strip("<>\"'") == MASK
    monkeypatch.setenv("PRIVATE_KEY", "first-line-of-it\nsecond-line-of-it")
    assert redact("at second-line-of-it") == f"at {MASK}"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnopqrstuv",
        "sk-ant-api03-AbCdEfGhIjKlMnOpQrSt",
        "ghp_abcdefghijklmnopqrstuvwx",
        "github_pat_11ABCDEFG0abcdefghij",
        "hf_abcdefghijklmnopqrstuvwx",
        "glpat-abcdefghij0123456789",
        "xoxb-123456789012-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_has_the_shape_of_a_key_is_masked(secret: str) -> None:
    assert redact(f"wrong: {secret} (see the log)") == f"wrong: {MASK} (see the log)"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("postgres://bob:hunter2@host/db", f"postgres://bob:{MASK}@host/db"),
        ("Authorization: Bearer abcdef.ghijkl-1", f"Authorization: Bearer {MASK}"),
        ("authorization: basic dXNlcjpwYXNz", f"authorization: basic {MASK}"),
        ("X-API-Key: foobarbaz", f"X-API-Key: {MASK}"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtn", f"AWS_SECRET_ACCESS_KEY={MASK}"),
        ("api_key='a b c', x", f"api_key={MASK}, x"),
        ("https://h/p?token=abc123def4&page=2", f"https://h/p?token={MASK}&page=2"),
        ("password: hunter2, next", f"password: {MASK}, next"),
    ],
)
def test_what_is_named_a_secret_is_masked(said: str, shown: str) -> None:
    assert redact(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "KeyError: 'order_id'",
        "unexpected token: '}' at 3",
        "sort key: name",
        "max_tokens=1024 tokens: 512",
        "the token is expired",
        "monkey=banana keyboard = us",
        "order A-17 costs 3.50",
        "",
    ],
)
def test_everyday_words_stay(said: str) -> None:
    assert redact(said) == said


def test_what_it_was_told_is_masked_from_then_on() -> None:
    remember(SecretStr("hunter2-hunter2"), "swordfish-1", b"bytes-of-it", None, 17)
    assert redact("hunter2-hunter2 swordfish-1 bytes-of-it 17") == f"{MASK} {MASK} {MASK} 17"


def test_odd_input_never_comes_through_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

    class Sneaky(str):
        def __str__(self) -> str:
            return CANARY

    monkeypatch.setenv("A_KEY", CANARY)
    assert redact(Broken()) == MASK
    assert redact(Sneaky("fine")) == "fine"
    assert redact(CANARY.encode()) == MASK
    assert redact(f"\udcff{CANARY}\x00") == f"\udcff{MASK}\x00"
    assert CANARY not in redact_error(Broken())
    assert redact(None) == "None"
    recursive: list[object] = []
    recursive.append(recursive)
    assert redacted(recursive) == MASK


def test_an_error_is_masked_with_its_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", CANARY)
    try:
        try:
            raise ValueError(f"inner {CANARY}")
        except ValueError as error:
            raise RuntimeError(f"outer {CANARY}") from error
    except RuntimeError as error:
        shown = redact_error(error)
    assert CANARY not in shown
    assert "inner" in shown and "outer" in shown and "Traceback" in shown


def test_json_is_masked_by_value_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", CANARY)
    said = {"api_key": "x", "headers": {"Authorization": "Z 1"}, "n": [1, True, None, CANARY], CANARY: 2.5}
    shown = {"api_key": MASK, "headers": {"Authorization": MASK}, "n": [1, True, None, MASK], MASK: 2.5}
    assert redacted(said) == shown


def test_arguments_typed_as_secrets_are_masked_wherever_they_are() -> None:
    Login = TypedDict("Login", {"user": str, "password": SecretStr})  # noqa: UP013
    Args = TypedDict(  # noqa: UP013
        "Args",
        {"key": SecretStr, "maybe": SecretStr | None, "many": list[SecretStr], "login": dict[str, SecretStr], "n": int},
    )
    schema = TypeAdapter(Args).json_schema()
    args = {"key": "a", "maybe": "b", "many": ["c", "d"], "login": {"x": "e"}, "n": 3}
    shown = {"key": MASK, "maybe": MASK, "many": [MASK, MASK], "login": {"x": MASK}, "n": 3}
    assert has_secrets(schema)
    assert without_secrets(args, schema) == shown
    assert without_secrets({"key": {"odd": "z"}, "extra": "y"}, schema) == {"key": MASK, "extra": "y"}
    plain = TypeAdapter(Login).json_schema()["properties"]["user"]
    assert not has_secrets(plain)
    assert args["key"] == "a"


@pytest.mark.parametrize(
    "piece",
    ["a", "eyJ", "-----BEGIN PRIVATE KEY-----", "http://", "api_", "x_key ", "'", "key='", "a.b-", "xoxb", "=:"],
)
def test_no_text_takes_long(piece: str) -> None:
    began = time.perf_counter()
    redact(piece * (100_000 // len(piece)))
    assert time.perf_counter() - began < 10


def test_schemas_that_are_true_or_false_are_no_secrets() -> None:
    schema = {"properties": {"x": True, "pin": {"format": "password"}}, "anyOf": [True], "items": False}
    assert has_secrets(schema) and not has_secrets({"properties": {"x": True}})
