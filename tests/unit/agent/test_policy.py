"""What a policy says of a call: rules, patterns, taint, and the one rule that is always there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mmagent.agent.policy import (
    Action,
    Case,
    Policy,
    Rule,
    Verdict,
    allow,
    ask,
    between,
    deny,
    digest,
    matching,
    none_of,
    not_matching,
    one_of,
    over,
    strictest,
    under,
)
from mmagent.agent.tools import AnyTool, tool
from mmagent.content import Label
from mmagent.errors import ConfigurationError, NotFound


@tool
def refund(order_id: str, amount: float | None, note: str = "", express: bool = False, currency: str = "EUR") -> None:
    """Pay money back."""


@tool
def send_mail(to: str, body: str = "", cc: list[str] | None = None) -> None:
    """Send a mail."""


@tool
def ship(address: dict[str, Any], items: list[dict[str, Any]]) -> None:
    """Ship something."""


@tool(effect="read")
def lookup_order(order_id: str) -> None:
    """Look an order up."""


@tool(effect="read", private=True)
def read_account(user: str) -> None:
    """Read an account."""


@tool(private=True)
def forward_account(user: str, to: str) -> None:
    """Send an account to somebody."""


UNTRUSTED: frozenset[Label] = frozenset({"untrusted"})
BOTH: frozenset[Label] = frozenset({"untrusted", "private"})


def judge(
    policy: Policy,
    of: AnyTool,
    labels: frozenset[Label] = frozenset(),
    said: Sequence[str] = (),
    **args: Any,
) -> Action:
    verdict = policy.judge(Case(of, args, labels, said))
    assert verdict.why
    return verdict.action


def test_without_rules_everything_runs() -> None:
    assert judge(Policy(), refund, UNTRUSTED, order_id="A-17", amount=5.0) == "allow"
    assert judge(Policy(), send_mail, frozenset({"private"}), to="a@b.example") == "allow"


def test_deny_beats_ask_beats_allow_in_any_order() -> None:
    rules = [allow("refund"), ask("refund", args={"amount": over(50)}), deny("refund", args={"amount": over(500)})]
    for order in (rules, rules[::-1]):
        policy = Policy(*order)
        assert [judge(policy, refund, order_id="A", amount=amount) for amount in (50.0, 51.0, 501.0)] == [
            "allow",
            "ask",
            "deny",
        ]


def test_a_tool_that_allow_rules_name_asks_for_what_they_do_not_cover() -> None:
    policy = Policy(allow("send_mail", args={"to": "*@shop.example"}))
    assert judge(policy, send_mail, to="anna@shop.example") == "allow"
    assert judge(policy, send_mail, to="anna@evil.example") == "ask"
    assert judge(policy, refund, order_id="A", amount=1.0) == "allow"


@pytest.mark.parametrize("otherwise", ["ask", "deny"])
def test_calls_that_no_rule_speaks_of(otherwise: Action) -> None:
    policy = Policy(allow("lookup_*"), ask("refund"), otherwise=otherwise)
    assert judge(policy, lookup_order, order_id="A") == "allow"
    assert judge(policy, refund, order_id="A", amount=1.0) == "ask"
    assert judge(policy, send_mail, to="a@b.example") == otherwise
    assert judge(policy, send_mail, BOTH, to="a@b.example") == otherwise


def test_a_rule_names_tools_by_glob_and_effect() -> None:
    policy = Policy(ask("*", effect="unsafe"), deny("send_?ail"))
    assert judge(policy, lookup_order, order_id="A") == "allow"
    assert judge(policy, refund, order_id="A", amount=1.0) == "ask"
    assert judge(policy, send_mail, to="a") == "deny"


def test_a_denial_says_why() -> None:
    rule = deny("refund", args={"amount": over(500)})
    why = Policy(rule).judge(Case(refund, {"order_id": "A", "amount": 501.0})).why
    assert why == "by the rule: deny refund where amount is over 500"
    why = Policy(deny("refund", why="only people refund")).judge(Case(refund, {})).why
    assert why == "only people refund"


def covers(pattern: Any, value: Any) -> str:
    """Whether a pattern surely holds, may hold or does not."""
    sure = judge(Policy(allow("refund", args={"note": pattern}), otherwise="deny"), refund, note=value) == "allow"
    maybe = judge(Policy(deny("refund", args={"note": pattern})), refund, note=value) == "deny"
    assert maybe or not sure
    return "yes" if sure else "careful" if maybe else "no"


@pytest.mark.parametrize(
    ("pattern", "yes", "no", "careful"),
    [
        ("A-1?", ["A-17"], ["A-2", "A-171", ""], ["a-17", "Ａ-17", "A-1\u200b7", None, [], True, {}]),
        ("17", ["17", 17], ["18", 171], [None]),
        ("*", ["", "anything at all\n½", 5], [], [None]),
        (
            "*@shop.example",
            ["anna@shop.example", "ANNA@Shop.Example", "a.b+c@shop.example"],
            ["anna@evil.example", "anna@shop.example.evil.example", "anna@sh0p.example", "anna@shоp.example"],
            [
                "eve@evil.example,anna@shop.example",
                "eve@evil.example\nbcc: a@shop.example",
                "eve@evil.example <a@shop.example",
                "Anna <x@shop.example",
                "ann\u200ba@shop.example",
                "anna@ｓhop.example",
                "anna@ſhop.example",
                "eve@evil.example/a@shop.example",
            ],
        ),
        (
            "https://shop.example/**",
            ["https://shop.example/", "https://shop.example/a/b?c=d"],
            [
                "https://evil.example/",
                "https://shop.example.evil.example/",
                "http://shop.example/",
                "https://shop.example",
            ],
            ["https://shop.example/../x", "https://shop.example/%2e%2e/x", "HTTPS://shop.example/x"],
        ),
        (
            "https://*.shop.example/a",
            ["https://www.shop.example/a"],
            ["https://shop.example/a"],
            ["https://evil.example/.shop.example/a", "https://evil.example#.shop.example/a"],
        ),
        ("/data/*", ["/data/a.txt"], ["/etc/passwd", "data/a"], ["/data/a/b", "/data/..", "/DATA/a", "/data/../etc"]),
        (matching(r"[A-Z]-\d+"), ["A-17"], ["A17", "A-17 "], ["a-17", "A-１７\u200b", {}]),
        (not_matching(r"[^@]+@shop\.example"), ["a@evil.example"], ["a@shop.example"], ["a@ſhop.example", None]),
        (one_of("a", 5, None), ["a", 5, None, []], ["b", 6], ["A"]),
        (none_of("a", "b", None), ["c"], ["a", "b", None, []], ["B"]),
        (over(100), [101, 100.5, "101", Decimal("100.01")], [100, 99, -500, "5"], ["x", None, "nan", "inf", True]),
        (under(100), [99, "99", -1], [100, 101], [float("nan"), "-inf", "1" * 200]),
        (between(1, 2), [1, 2, 1.5], [0.99, 2.01], [None]),
        (True, [True], [False], [1, "true", None]),
        (5, [5, 5.0, "5"], [6, "five"], [True]),
        (None, [None, []], ["", "x", 0], []),
        ("a*b*c", ["abc", "a-b-c"], ["ab"], ["a\nb-c"]),
    ],
)
def test_patterns(pattern: Any, yes: list[Any], no: list[Any], careful: list[Any]) -> None:
    assert {repr(value): covers(pattern, value) for value in (*yes, *no, *careful)} == (
        {repr(value): "yes" for value in yes}
        | {repr(value): "no" for value in no}
        | {repr(value): "careful" for value in careful}
    )


def test_of_a_list_all_must_be_allowed_and_one_is_enough_to_forbid() -> None:
    allowed = Policy(allow("send_mail", args={"cc": "*@shop.example"}))
    denied = Policy(deny("send_mail", args={"cc": none_of("*@shop.example", None)}))
    for cc, wanted in (
        (["a@shop.example"], ["allow", "allow"]),
        (["a@shop.example", "b@evil.example"], ["ask", "deny"]),
        ([["b@evil.example"]], ["ask", "deny"]),
        ([], ["ask", "allow"]),
        (None, ["ask", "allow"]),
    ):
        assert [judge(policy, send_mail, to="x", cc=cc) for policy in (allowed, denied)] == wanted, cc


def test_paths_reach_into_objects_and_lists() -> None:
    policy = Policy(deny("ship", args={"address.country": none_of("DE")}), ask("ship", args={"items.price": over(9)}))

    def action(country: Any, *prices: float) -> Action:
        return judge(policy, ship, address={"country": country}, items=[{"price": price} for price in prices])

    assert [action("DE", 1, 9), action("DE", 1, 10), action("FR", 1), action(None, 1)] == [
        "allow",
        "ask",
        "deny",
        "deny",
    ]
    assert judge(policy, ship, address="DE", items=[{"price": 1}]) == "deny"
    assert judge(policy, ship, address={"country": "DE"}, items=["?"]) == "ask"


def test_an_argument_that_is_not_given_is_the_tools_default() -> None:
    assert judge(Policy(deny("refund", args={"currency": none_of("EUR")})), refund, order_id="A") == "allow"
    assert judge(Policy(allow("refund", args={"currency": "EUR"}), otherwise="deny"), refund) == "allow"


def test_an_argument_that_says_nothing_is_taken_the_careful_way() -> None:
    for args in ({"amount": None}, {}):
        assert judge(Policy(ask("refund", args={"amount": over(100)})), refund, **args) == "ask"
        assert judge(Policy(allow("refund", args={"amount": under(100)})), refund, **args) == "ask"


def test_a_rule_for_many_tools_means_those_that_have_the_argument() -> None:
    policy = Policy(deny("*", args={"to": none_of("*@shop.example")}))
    assert judge(policy, refund, order_id="A", amount=1.0) == "allow"
    assert judge(policy, send_mail, to="a@evil.example") == "deny"
    assert judge(Policy(deny("refund", args={"ammount": over(1)})), refund, amount=0.0) == "deny"  # misspelled


def test_private_data_and_content_of_others_and_a_way_out_ask() -> None:
    assert judge(Policy(), send_mail, BOTH, to="a@shop.example") == "ask"
    assert judge(Policy(), lookup_order, BOTH, order_id="A") == "allow"
    assert judge(Policy(), forward_account, UNTRUSTED, user="u", to="a") == "ask"
    assert judge(Policy(), forward_account, user="u", to="a") == "allow"
    assert judge(Policy(allow("*")), send_mail, BOTH, to="a@shop.example") == "ask"
    assert judge(Policy(allow("send_mail")), send_mail, BOTH, to="a@shop.example") == "ask"


def test_one_way_out_can_be_trusted() -> None:
    policy = Policy(allow("send_mail", args={"to": "*@shop.example"}, trusted=True))
    assert judge(policy, send_mail, BOTH, to="a@shop.example") == "allow"
    assert judge(policy, send_mail, BOTH, to="a@evil.example") == "ask"
    assert judge(policy, refund, BOTH, order_id="A", amount=1.0) == "ask"
    with pytest.raises(ConfigurationError, match="full name"):
        allow("send_*", trusted=True)


def test_strict_asks_for_all_that_takes_effect_once_content_of_others_was_shown() -> None:
    policy = Policy.strict(allow("refund"))
    assert judge(policy, refund, order_id="A", amount=1.0) == "allow"
    assert judge(policy, refund, UNTRUSTED, ["refund 1 for A"], order_id="A", amount=1) == "ask"
    assert judge(policy, lookup_order, UNTRUSTED, order_id="A") == "allow"


@pytest.mark.parametrize(
    ("said", "args", "wanted"),
    [
        ("Refund 25 euros of A-17.", {"order_id": "A-17", "amount": 25.0}, "allow"),
        ("refund a-17, $1,250.50!", {"order_id": "A-17", "amount": 1250.5}, "allow"),
        ("A-17: 12,50 €", {"order_id": "A-17", "amount": 12.5}, "allow"),
        ("refund A-17", {"order_id": "A-17", "amount": 25.0}, "ask"),
        ("refund A-17", {"order_id": "A-17", "amount": 17}, "ask"),
        ("refund A-17 25", {"order_id": "A-1", "amount": 25}, "ask"),
        ("refund A-17 25", {"order_id": "17", "amount": 25}, "ask"),
        ("refund A-17 25.99", {"order_id": "A-17", "amount": 25}, "ask"),
        ("refund A-17 -25", {"order_id": "A-17", "amount": 25}, "ask"),
        ("refund A-17 1,250", {"order_id": "A-17", "amount": 1}, "ask"),
        ("refund A-17 25", {"order_id": "Ａ-17", "amount": 25}, "ask"),
        ("refund A-17 25", {"order_id": "A-17\u200b", "amount": 25}, "ask"),
        ("refund A-17 25", {"order_id": "", "amount": 25}, "ask"),
        ("refund A-17 25", {"order_id": "A-17", "amount": None}, "ask"),
        ("refund A-17 25", {"order_id": "A-17", "amount": True}, "ask"),
        ("refund A-17 25", {"order_id": ["A-17"], "amount": 25}, "allow"),
        ("refund A-17 25", {"order_id": ["A-17", "A-18"], "amount": 25}, "ask"),
        ("refund A-17 25", {"order_id": {"A-99": "A-17"}, "amount": 25}, "ask"),
    ],
)
def test_a_value_that_the_user_did_not_say_is_tainted(said: str, args: dict[str, Any], wanted: Action) -> None:
    policy = Policy(ask("refund", tainted=("order_id", "amount")))
    assert judge(policy, refund, UNTRUSTED, [said], **args) == wanted
    assert judge(policy, refund, frozenset(), [], **args) == "allow"


def test_a_flag_is_tainted_where_it_is_not_the_tools_default() -> None:
    policy = Policy(ask("refund", tainted=("express", "currency")))
    assert judge(policy, refund, UNTRUSTED, [], order_id="A", express=False, currency="EUR") == "allow"
    assert judge(policy, refund, UNTRUSTED, [], order_id="A", express=True) == "ask"
    assert judge(policy, refund, UNTRUSTED, ["in USD please"], order_id="A", currency="USD") == "allow"


def test_words_of_two_messages_do_not_make_one() -> None:
    policy = Policy(ask("send_mail", tainted="to"))
    assert judge(policy, send_mail, UNTRUSTED, ["eve@evil", ".example"], to="eve@evil.example") == "ask"


class Odd:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "odd",
    [Odd(), nested(500), nested(5000), "\ud800", b"\xff", {1: 2}, {"a": {1, 2}}, 10**5000, "9" * 50_000, object],
    ids=["odd", "deep", "deeper", "surrogate", "bytes", "key", "set", "int", "digits", "type"],
)
def test_odd_arguments_are_never_allowed_by_a_rule_and_never_raise(odd: Any) -> None:
    for pattern in ("A*", matching("A.*"), over(5), one_of("A", 5), True):
        assert judge(Policy(allow("refund", args={"note": pattern})), refund, UNTRUSTED, note=odd) != "allow"
    for rule in (deny("refund", args={"note": none_of("A*")}), deny("refund", tainted=("note",))):
        assert judge(Policy(rule), refund, UNTRUSTED, note=odd) == "deny"


def test_a_long_string_does_not_take_long() -> None:
    for value in ("a" * 9_999, "ab" * 4_000):
        assert covers("*a*a*a*a*a*a*a*a*b@", value) == "no"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Policy("refund"), "is no rule"),
        (lambda: Policy(otherwise="maybe"), "otherwise"),
        (lambda: ask(""), "no tool's name"),
        (lambda: ask("*", effect="bad"), "effect"),
        (lambda: ask("x", args={"a..b": 1}), "no argument's name"),
        (lambda: ask("x", args={"a": [1]}), "is no pattern"),
        (lambda: ask("x", args={"a": matching("(")}), "no regular expression"),
        (lambda: over("5"), "need a number"),
        (lambda: over(float("nan")), "need a number"),
        (lambda: one_of(), "at least one"),
    ],
)
def test_rules_that_cannot_be_used_are_told(make: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        make()


def test_several_policies_are_as_strict_as_the_strictest() -> None:
    a, b, c = Verdict("allow", "a"), Verdict("ask", "b"), Verdict("ask", "c")
    assert strictest([a, b, c]) == Verdict("ask", "b; c")
    assert strictest([a, Verdict("deny", "d"), b]) == Verdict("deny", "d")
    assert strictest([]).action == "allow"


def test_an_approval_is_bound_to_session_call_tool_and_exact_arguments() -> None:
    args = {"order_id": "A-17", "amount": 25, "lines": [{"b": 1, "a": 2}]}
    same = {"lines": [{"a": 2, "b": 1}], "amount": 25, "order_id": "A-17"}
    first = digest("s", "call_1", "refund", args)
    assert first == digest("s", "call_1", "refund", same)
    others = [
        digest("t", "call_1", "refund", args),
        digest("s", "call_2", "refund", args),
        digest("s", "call_1", "refund_all", args),
        *(digest("s", "call_1", "refund", args | {"amount": amount}) for amount in (25.0, "25", 250, True, None)),
        digest("s", "call_1", "refund", args | {"note": None}),
        digest("s", "call_1", "refund", args | {"order_id": "A-17 "}),
        digest("s", "call_1", "refund", args | {"order_id": "Ａ-17"}),
        digest("s", "call_1", "refund", args | {"order_id": "\ud800"}),
    ]
    assert len({first, *others}) == 1 + len(others)
    assert len(first) == 64


FILE = """
otherwise: ask
rules:
  - allow: lookup_*
  - ask: refund
    args: {amount: {over: 100}}
    why: large refunds are looked at
  - deny: send_*
    args:
      to: {none_of: ['*@shop.example', null]}
  - allow: send_mail
    args: {to: {matching: '.*@shop\\.example'}}
    trusted: true
  - ask: "*"
    effect: unsafe
    tainted: [order_id]
"""


def rules_of(policy: Policy) -> list[str]:
    return [str(rule) for rule in policy.rules]


def test_a_policy_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(FILE)
    policy = Policy.load(path)
    written = Policy(
        allow("lookup_*"),
        ask("refund", args={"amount": over(100)}, why="large refunds are looked at"),
        deny("send_*", args={"to": none_of("*@shop.example", None)}),
        allow("send_mail", args={"to": matching(r".*@shop\.example")}, trusted=True),
        ask("*", effect="unsafe", tainted=["order_id"]),
        otherwise="ask",
    )
    assert policy.rules == written.rules
    assert policy.otherwise == "ask"
    path.write_text(
        json.dumps({"strict": True, "rules": [{"deny": "refund", "args": {"amount": {"between": [1, 2]}}}]})
    )
    assert repr(Policy.load(path)) == repr(Policy.strict(deny("refund", args={"amount": between(1, 2)})))
    path.write_text("# nothing yet\n")
    with pytest.raises(ConfigurationError, match="the policy is empty"):
        Policy.load(str(path))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("rules:\n  - alow: x", 2, "needs one of allow, ask and deny"),
        ("rules:\n  - allow: x\n    deny: y", 2, "needs one of"),
        ("rules:\n  - ask: x\n    arg: {}", 3, "'arg'"),
        ("rules:\n  - ask: x\n    args: {a: {ovr: 5}}", 3, "one of between"),
        ("rules:\n  - ask: x\n    args: {a: {over: 5, under: 6}}", 3, "one of between"),
        ("rules:\n  - ask: x\n    args: {a: {over: [5]}}", 3, "one value"),
        ("rules:\n  - ask: x\n    args: {a: {one_of: x}}", 3, "a list"),
        ("rules:\n  - ask: x\n    args: {a: {over: five}}", 3, "need a number"),
        ("rules:\n  - ask: x\n    args: {a: {matching: '('}}", 3, "regular expression"),
        ("rules:\n  - ask: x\n    args: {a: 2024-01-01}", 3, "read as a date"),
        ("rules:\n  - ask: x\n    args: {no: 5}", 3, "put it in quotes"),
        ("rules:\n  - ask: x\n    args: {a: 1}\n    args: {b: 1}", 4, "twice"),
        ("rules:\n  - allow: x\n    tainted: true", 3, "'tainted'"),
        ("rules:\n  - allow: 'x*'\n    trusted: true", 2, "full name"),
        ("rules:\n  - ask: x\n    effect: reads", 2, "effect"),
        ("rules:\n  - ask: x\n    why: 5", 3, "why cannot be 5"),
        ("rules: {ask: x}", 1, "is a list"),
        ("\nrule: []", 2, "no 'rule'"),
        ("otherwise: no", 1, "otherwise is False"),
        ("strict: 1", 1, "true or false"),
        ("- ask: x", 1, "names with values"),
        ("rules: [\n", 2, "neither YAML nor JSON"),
        ("rules:\n  - ask: !!python/object/apply:os.system [ls]", 2, ""),
        ("rules: &a\n  - ask: x\n    args: {a: {one_of: &b [*b]}}", 1, "contains itself"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, text: str, line: int, why: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        Policy.load(path)
    assert f"line {line}: " in str(error.value)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Policy.load(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError):
        Policy.load(tmp_path)


def test_rules_say_what_they_are() -> None:
    rule: Rule = ask("refund", args={"amount": none_of(over(5), "x*")}, effect="unsafe", tainted=("a", "b"))
    assert str(rule) == (
        "ask refund (unsafe) where amount is not over 5 or like 'x*' and a or b may come from content of others"
    )
