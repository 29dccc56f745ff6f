"""Secrets that gitleaks has no rule for: passwords in addresses, and authorization headers."""

from functools import cache

from services.guardrails.entropy import shannon_entropy
from services.guardrails.gate import Shape
from services.guardrails.gitleaks import CATEGORY, gitleaks_rules
from services.guardrails.rules import Candidate, Rule

__all__ = ["secret_rules"]

_WORDS_FOR_PASSWORDS = """
    admin apikey changeme example foobar guest hunter2 key mypassword mysecret name pass
    passwd password passwort postgres pw pwd root secret test testing token user username
    yourpassword
"""
_PLACEHOLDERS = frozenset(_WORDS_FOR_PASSWORDS.split())
_HEADER_ENTROPY_MIN = 3.5


def _password_counts(candidate: Candidate) -> bool:
    """Tell whether the password of an address is one, not the word for it, stars or a variable."""
    value = candidate.value
    letters = "".join(character for character in value if character.isalnum()).lower()
    return len(set(value)) > 2 and letters not in _PLACEHOLDERS and bool(letters)  # noqa: PLR2004


def _header_counts(candidate: Candidate) -> bool:
    """Tell whether a header's credentials are made by a machine: digits, and little repetition."""
    value = candidate.value
    return shannon_entropy(value) > _HEADER_ENTROPY_MIN and any(
        character.isdigit() for character in value
    )


_OWN = (
    Rule(
        name="url-password",
        category=CATEGORY,
        pattern=(
            r"""\b[A-Za-z][A-Za-z0-9+.\-]{1,20}://[^\s:/@'"<>`{}$]{0,64}:"""
            r"""([^\s:/@'"<>`{}$()%]{3,128})@[A-Za-z0-9\[]"""
        ),
        check=_password_counts,
        gate=r"://[^\s/@]{1,200}@",
        shape=Shape(bytes_max=232, bytes_after=1),
    ),
    Rule(
        name="authorization-header",
        category=CATEGORY,
        pattern=(
            r"""(?i)\bauthorization\\?["']?\s{0,3}[:=]\s{0,3}\\?["']?"""
            r"""(?:bearer|basic|token)\s{1,3}([A-Za-z0-9._~+/\-]{16,}={0,2})"""
        ),
        check=_header_counts,
    ),
)


@cache
def secret_rules() -> tuple[Rule, ...]:
    """Return all rules of secrets: gitleaks' own first, but for its generic one, which is last."""
    rules = gitleaks_rules()
    generic = tuple(rule for rule in rules if rule.name.startswith("generic"))
    return (*rules[: len(rules) - len(generic)], *_OWN, *generic)
