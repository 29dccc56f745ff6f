"""Secrets: keys, tokens and passwords, by gitleaks' rules and two of our own."""

from functools import lru_cache

from services.guardrails.chosen import build_chosen
from services.guardrails.engine import Gate
from services.guardrails.lazy import LazyGate
from services.guardrails.own_secrets import secret_rules
from services.guardrails.rules import RuleScanner

__all__ = ["build_secrets"]


def build_secrets(settings: object) -> RuleScanner:
    """Return the scanner of secrets. Raises ConfigError with the place of what is wrong."""
    return build_chosen(settings, secret_rules(), _gate)


@lru_cache(maxsize=8)
def _gate(names: frozenset[str]) -> Gate:
    """Return the first pass for some rules; it takes long to compile, and has no state."""
    patterns = [rule.for_gate() for rule in secret_rules() if rule.name in names]
    return LazyGate(lambda: Gate(patterns, trusted=True))
