"""One first pass for all rules of this project: it takes hardly longer than that of one kind.

So guardrails of several kinds read a text once, whichever of the rules they have chosen.
"""

from functools import cache

from services.guardrails.gate import Gate
from services.guardrails.lazy import LazyGate
from services.guardrails.own_secrets import secret_rules
from services.guardrails.personal_data import personal_data_rules
from services.guardrails.rules import Rule

__all__ = ["own_gate", "own_rules"]


@cache
def own_rules() -> tuple[Rule, ...]:
    """Return the rules of all kinds; the gate has their patterns by their places here."""
    return (*secret_rules(), *personal_data_rules())


@cache
def own_gate() -> LazyGate:
    """Return the first pass for these rules; it takes half a second of CPU to compile."""
    return LazyGate(lambda: Gate([rule.for_gate() for rule in own_rules()], trusted=True))
