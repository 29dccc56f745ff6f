"""Secrets: keys, tokens and passwords, by gitleaks' rules and two of our own."""

from functools import lru_cache

import msgspec

from services.guardrails.allowed import build_allowed
from services.guardrails.engine import Gate
from services.guardrails.lazy import LazyGate
from services.guardrails.own_secrets import secret_rules
from services.guardrails.rules import RuleScanner
from services.guardrails.settings import chosen_rules, read_settings

__all__ = ["build_secrets"]


class Secrets(msgspec.Struct):
    """The settings of a guardrail of this kind."""

    rules: list[str] | None = None
    """The names of the rules that are used; absent: all."""
    exclude_rules: list[str] = []
    allow: list[str] = []
    allow_patterns: list[str] = []


def build_secrets(settings: object) -> RuleScanner:
    """Return the scanner of secrets. Raises ConfigError with the place of what is wrong."""
    read = read_settings(settings, Secrets)
    rules = secret_rules()
    names = chosen_rules(tuple(rule.name for rule in rules), read.rules, read.exclude_rules)
    allowed = build_allowed(read.allow, read.allow_patterns)
    chosen = [rule for rule in rules if rule.name in names]
    return RuleScanner(chosen, _gate(frozenset(names)), allowed)


@lru_cache(maxsize=8)
def _gate(names: frozenset[str]) -> Gate:
    """Return the first pass for some rules; it takes long to compile, and has no state."""
    patterns = [rule.for_gate() for rule in secret_rules() if rule.name in names]
    return LazyGate(lambda: Gate(patterns, trusted=True))
