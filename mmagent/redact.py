"""Secrets out of text that leaves the program's hands: errors, logs, traces, recordings. It knows words, not who asks.

Masked are the values of environment variables whose names look secret, what `remember` was told, and what has the
shape of a key. A text that cannot be searched is masked whole.
"""

from __future__ import annotations

import json
import os
import re
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

MASK = "**********"
"""What stands in the place of a secret; pydantic's ``SecretStr`` shows itself so too."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
_LONG = 8
"""Characters from which on a secret is masked inside longer words too."""
_SHORTEST = 4
_HARMLESS = frozenset(("true", "false", "none", "null", "auto", "disabled", "enabled", "default"))
_REMEMBERED = 256

_KINDS = r"(?:(?:api|access|auth|account|private|secret|client|refresh|id|session|bearer|csrf|x)[_-]?)"
_NAMED = rf"(?:{_KINDS}{{1,4}}(?:key|token)|{_KINDS}{{0,4}}(?:secret|pass(?:word|wd|phrase)|pwd|credentials?))"
_IS = r"[\"']?\s{0,4}(?:=>|[=:])\s{0,4}"
_BARE = r"[^\s\"'&;,)\]}]"
_SHAPES = re.compile(
    "|".join(
        (
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]|-(?!----)){0,20000}"
            r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?",
            r"(?<![A-Za-z0-9])(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, Stripe
            r"(?<![A-Za-z0-9])gh[opusr]_[A-Za-z0-9]{16,}|(?<![A-Za-z0-9])github_pat_\w{16,}",
            r"(?<![A-Za-z0-9])(?:glpat-|hf_|npm_|pypi-|gsk_|xai-|lsv2_|dop_v1_|shpat_|SG\.)[\w.-]{16,}",
            r"(?<![A-Za-z0-9])xox[a-z]-[\w-]{10,}",
            r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
            r"(?<![A-Za-z0-9])AIza[\w-]{30,}",
            r"(?<![A-Za-z0-9])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # a JSON web token
        )
    )
)
_VALUES = re.compile(
    "|".join(
        (
            r"(?P<scheme>\b[A-Za-z][\w+.-]{0,30}://[^\s/:@]{0,200}:)[^\s/@]{1,500}(?=@)",  # user:password@host
            r"(?P<header>(?i:\bbearer|authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:\w{1,20}\s)?)\s{0,4})"
            r"(?<=[\s:=\"'])[\w.~+/=-]{6,}",
            rf"(?P<named>(?<![A-Za-z0-9])(?i:{_NAMED}){_IS})(?:\"[^\"\n]{{1,2000}}\"|'[^'\n]{{1,2000}}'|{_BARE}{{4,}})",
            # "key" and "token" are everyday words: what follows must look like one
            rf"(?P<maybe>(?<![A-Za-z0-9])(?i:key|token){_IS}[\"']?)(?={_BARE}{{0,2000}}\d){_BARE}{{8,}}",
        )
    )
)
_NAME = re.compile(rf"(?i:{_NAMED}|key|token|(?:proxy-)?authorization|cookie)")
_lock = threading.Lock()
_remembered: OrderedDict[str, None] = OrderedDict()


def remember(*secrets: Any) -> None:
    """Mask these wherever they turn up from now on; the last 256 are kept.

    Args:
        secrets: Strings, or objects with a ``get_secret_value`` such as pydantic's ``SecretStr``; others are ignored.
    """
    for secret in secrets:
        reveal = getattr(secret, "get_secret_value", None)
        value = reveal() if callable(reveal) else secret
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str) and _worth_masking(value):
            with _lock:
                _remembered[value] = None
                _remembered.move_to_end(value)
                while len(_remembered) > _REMEMBERED:
                    _remembered.popitem(last=False)


def redact(text: object) -> str:
    """The text with every secret in it masked.

    Args:
        text: A string; anything else is turned into one first.
    """
    try:
        return _redact(text, _known())
    except Exception:  # rather nothing than a secret
        return MASK


def redact_error(error: BaseException) -> str:
    """An error with its traceback and causes, for a log, every secret in it masked."""
    try:
        return redact("".join(traceback.format_exception(error)))
    except Exception:
        return f"{type(error).__name__}: {MASK}"


def redacted(value: Any) -> Any:
    """A JSON value with the secrets masked in all its strings, and those under a name such as ``api_key`` whole."""
    try:
        return _redacted(value, _known())
    except Exception:
        return MASK


def without_secrets(args: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they may be written down: those whose type is a secret are masked, and remembered to be masked.

    Args:
        args: A call's arguments, as JSON.
        schema: The JSON Schema of the arguments. A secret is what it calls ``writeOnly`` or of the format
            ``password``, as pydantic does for ``SecretStr`` and ``SecretBytes``.
    """
    masked = _masked(dict(args), schema)
    return masked if isinstance(masked, dict) else {}


def lost_secrets(args: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Whether arguments were written down by `without_secrets` and a secret in them is gone."""
    return has_secrets(schema) and MASK in json.dumps(args, ensure_ascii=False, default=str)


def has_secrets(schema: Mapping[str, Any]) -> bool:
    """Whether any argument of this JSON Schema is a secret."""
    return _is_secret(schema) or any(map(has_secrets, _children(schema)))


def _redact(text: object, known: tuple[re.Pattern[str], ...]) -> str:
    if isinstance(text, bytes | bytearray):
        text = bytes(text).decode("utf-8", "replace")
    said = str.__str__(text) if isinstance(text, str) else str(text)
    for secrets in known:
        said = secrets.sub(MASK, said)
    return _VALUES.sub(_keep_name, _SHAPES.sub(MASK, said))


def _redacted(value: Any, known: tuple[re.Pattern[str], ...]) -> Any:
    if isinstance(value, Mapping):
        return {
            _redact(key, known): MASK if isinstance(item, str | list) and _names_secret(key) else _redacted(item, known)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item, known) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _redact(value, known)


def _masked(value: Any, schema: Mapping[str, Any]) -> Any:
    if not has_secrets(schema):
        return value
    if _is_secret(schema):
        if value is not None:
            remember(value)
            return MASK
        return None
    for branch in _branches(schema):
        value = _masked(value, branch)
    if isinstance(value, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, Mapping) else {}
        return {key: _masked(item, fields.get(key, others)) for key, item in value.items()}
    if isinstance(value, list):
        first, rest = schema.get("prefixItems", []), schema.get("items")
        rest = rest if isinstance(rest, Mapping) else {}
        return [_masked(item, first[at] if at < len(first) else rest) for at, item in enumerate(value)]
    return value


def _is_secret(schema: Mapping[str, Any]) -> bool:
    return schema.get("writeOnly") is True or schema.get("format") == "password"


def _branches(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a value may be instead; a value that may be a secret is taken for one."""
    branches = [branch for key in ("anyOf", "oneOf", "allOf") for branch in schema.get(key, ())]
    return [branch for branch in branches if isinstance(branch, Mapping)]  # true and false are schemas too


def _children(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = [*schema.get("properties", {}).values(), *schema.get("prefixItems", ())]
    parts += [schema.get("items"), schema.get("additionalProperties")]
    return [*_branches(schema), *(part for part in parts if isinstance(part, Mapping))]


def _keep_name(match: re.Match[str]) -> str:
    return f"{match['scheme'] or match['header'] or match['named'] or match['maybe'] or ''}{MASK}"


def _names_secret(name: Any) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _worth_masking(value: str) -> bool:
    return len(value) >= _SHORTEST and value.strip().lower() not in _HARMLESS and not value.isspace()


def _known() -> tuple[re.Pattern[str], ...]:
    """Patterns of all secrets that are known now."""
    found = {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and _worth_masking(value)}
    with _lock:
        found.update(_remembered)
    return _patterns(frozenset(found))


@lru_cache(maxsize=8)
def _patterns(secrets: frozenset[str]) -> tuple[re.Pattern[str], ...]:
    """At most two patterns: secrets that are masked anywhere, and short ones that are masked as words of their own."""
    long = {form for secret in secrets if len(secret) >= _LONG for form in _forms(secret)}
    short = {form for secret in secrets if len(secret) < _LONG for form in _forms(secret)}
    patterns = []
    if long:
        patterns.append(re.compile(_any_of(long)))
    if short:
        patterns.append(re.compile(rf"(?<!\w)(?:{_any_of(short)})(?!\w)"))
    return tuple(patterns)


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in a text: as it is, line by line, and as JSON, Python and addresses write it."""
    lines = (line.strip() for line in secret.splitlines())
    whole = secret.strip()
    forms = {whole, *(line for line in lines if len(line) >= _LONG), json.dumps(whole)[1:-1], repr(whole)[1:-1]}
    forms.add(quote(whole.encode("utf-8", "replace"), safe=""))
    return {form for form in forms if form}
