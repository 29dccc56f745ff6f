"""Guardrails' rules: text in, findings out. No network, no file but its own rules, no event loop.

`build_scanner` makes a scanner from settings; `Scanner.scan` says where something stands that a
rule speaks of; `mask` takes it out.
"""

from services.guardrails.build import KINDS, build_scanner
from services.guardrails.findings import Finding, Scanner, mask
from services.guardrails.texts import Texts

__all__ = ["KINDS", "Finding", "Scanner", "Texts", "build_scanner", "mask"]
