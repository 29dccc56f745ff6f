"""From a model name to a deployment: pure rules over the configuration."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from schemas.config import Deployment
from schemas.errors import NotFound, Unauthenticated

__all__ = ["Router", "matches", "names_allowed"]

_LISTED_MAX = 20
"""A message lists at most so many model names."""


def matches(pattern: str, name: str) -> str | None:
    """Return what the `*` of a pattern stands for in a name ("" without a star), None: no match."""
    before, star, after = pattern.partition("*")
    if not star:
        return "" if pattern == name else None
    if len(name) < len(before) + len(after):
        return None
    if not name.startswith(before) or not name.endswith(after):
        return None
    return name[len(before) : len(name) - len(after)]


def names_allowed(patterns: Sequence[str], model_name: str) -> bool:
    """Tell whether a key with these `models` may use a model name. None listed: it may use all."""
    if not patterns:
        return True
    return any(matches(pattern, model_name) is not None for pattern in patterns)


class Router:
    """Chooses the deployment for a model name.

    An exact name comes before patterns, a pattern with more letters before one with fewer. Among
    several deployments of one name a session keeps to its own, so that prompt caches stay warm;
    requests without a session go round. `unusable` are the model names of the registry that
    cannot be served, with the reasons: a name that has no other deployment is refused with them,
    and no other pattern takes its place.
    """

    def __init__(
        self, deployments: Iterable[Deployment], unusable: Mapping[str, str] | None = None
    ) -> None:
        self._groups: dict[str, list[Deployment]] = {}
        for deployment in deployments:
            self._groups.setdefault(deployment.model_name, []).append(deployment)
        self._unusable = {
            name: reason for name, reason in (unusable or {}).items() if name not in self._groups
        }
        self._patterns = sorted(
            (name for name in (*self._groups, *self._unusable) if "*" in name),
            key=len,
            reverse=True,
        )
        self._turn = 0

    @property
    def names(self) -> list[str]:
        """All model names and patterns, in the order of the configuration."""
        return list(self._groups)

    def choose(self, model_name: str, session_id: str | None) -> tuple[Deployment, str]:
        """Return the deployment and the upstream's model name.

        Raises NotFound; Unauthenticated for a model that cannot be served.
        """
        group = self._groups.get(model_name)
        star = ""
        if group is None or "*" in model_name:
            group, star = self._by_pattern(model_name)
        deployment = group[0] if len(group) == 1 else self._one_of(group, session_id)
        return deployment, deployment.model.replace("*", star, 1)

    def _by_pattern(self, model_name: str) -> tuple[list[Deployment], str]:
        self._refuse_unusable(model_name)
        for pattern in self._patterns:
            star = matches(pattern, model_name)
            if star is not None:
                self._refuse_unusable(pattern)
                # `anthropic/claude-x` under the name `*` means the model, not the provider.
                return self._groups[pattern], star.removeprefix("anthropic/")
        known = ", ".join(self.names[:_LISTED_MAX]) or "none"
        raise NotFound(
            f"The model {model_name[:100]!r} is not configured. Models here: {known}. "
            "Choose one of them (Claude Code: ANTHROPIC_MODEL), or add it to model_list"
        )

    def _refuse_unusable(self, name: str) -> None:
        reason = self._unusable.get(name)
        if reason is not None:
            raise Unauthenticated(
                f"The model {name[:100]!r} was added at run time and cannot be used by this "
                f"gateway: {reason}. Your administrator must correct it"
            )

    def _one_of(self, group: list[Deployment], session_id: str | None) -> Deployment:
        if session_id is None:
            self._turn += 1
            return group[self._turn % len(group)]
        digest = hashlib.blake2b(session_id.encode(), digest_size=8).digest()
        return group[int.from_bytes(digest) % len(group)]
