"""Scanners of which the configuration chooses the rules by their names."""

from collections.abc import Sequence

import msgspec

from services.guardrails.allowed import build_allowed
from services.guardrails.own_gate import own_gate, own_rules
from services.guardrails.rules import Rule, RuleScanner
from services.guardrails.settings import chosen_rules, read_settings

__all__ = ["Choice", "build_chosen"]


class Choice(msgspec.Struct):
    """The settings of such a guardrail."""

    rules: list[str] | None = None
    """The names of the rules that are used; absent: all."""
    exclude_rules: list[str] = []
    allow: list[str] = []
    allow_patterns: list[str] = []


def build_chosen(settings: object, rules: Sequence[Rule]) -> RuleScanner:
    """Return the scanner of those rules of a kind, which follow in own_rules(), that are chosen.

    Raises ConfigError with the place of what is wrong.
    """
    read = read_settings(settings, Choice)
    # Two rules of one name are two forms of one thing.
    known = tuple(dict.fromkeys(rule.name for rule in rules))
    names = chosen_rules(known, read.rules, read.exclude_rules)
    allowed = build_allowed(read.allow, read.allow_patterns)
    first = own_rules().index(rules[0])
    chosen = {number: rule for number, rule in enumerate(rules, first) if rule.name in names}
    return RuleScanner(chosen, own_gate(), allowed)
