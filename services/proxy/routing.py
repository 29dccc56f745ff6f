"""From a model name to a deployment: pure rules over the configuration."""

import hashlib
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from schemas.config import Deployment, RouterSettings
from schemas.errors import NotFound, Unauthenticated
from services.runtime.model_names import matches

__all__ = ["Group", "Router", "model_at", "names_allowed", "ranked"]

_EVERY_OTHER = "*"

_LISTED_MAX = 20
"""A message lists at most so many model names."""


def names_allowed(patterns: Sequence[str], model_name: str) -> bool:
    """Tell whether a key with these `models` may use a model name. None listed: it may use all."""
    if not patterns:
        return True
    return any(matches(pattern, model_name) is not None for pattern in patterns)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The deployments of one model name. `is_plain`: one, with nothing to count or to try after."""

    name: str
    deployments: tuple[Deployment, ...]
    is_plain: bool


def model_at(deployment: Deployment, star: str) -> str:
    """Return the upstream's name of a model; `star` is what the name's own star stood for."""
    return deployment.model.replace("*", star, 1)


def ranked(deployments: Sequence[Deployment], seed: str) -> list[Deployment]:
    """Return deployments in the order in which a session (its id is the seed) is to use them.

    Rendezvous hashing: each has its share of the sessions by its weight, every process finds the
    same order, and a deployment that comes or goes moves its own share of the sessions alone.
    Lower numbers of `order` come first.
    """
    return sorted(deployments, key=lambda deployment: _rank(deployment, seed))


def _rank(deployment: Deployment, seed: str) -> tuple[float, float, str]:
    token = f"{seed}\0{deployment.deployment_id}".encode(errors="surrogatepass")
    drawn = int.from_bytes(hashlib.blake2b(token, digest_size=8).digest()) >> 11
    # Between 0 and 1, neither of them: -ln of it over the weight is exponentially distributed,
    # and the least of such draws falls to each by its share of the weights.
    unit = (drawn + 0.5) / (1 << 53)
    order = math.inf if deployment.order is None else float(deployment.order)
    delay = -math.log(unit) / deployment.weight if deployment.weight else math.inf
    return order, delay, deployment.deployment_id


class Router:
    """Finds the deployments for a model name, and the names that may be tried after it.

    An exact name comes before aliases, and these before patterns; a pattern with more letters
    before one with fewer. `unusable` are the model names of the registry that cannot be served,
    with the reasons: a name that has no other deployment is refused with them, and no other pattern
    takes its place.
    """

    def __init__(
        self,
        deployments: Iterable[Deployment],
        unusable: Mapping[str, str] | None = None,
        settings: RouterSettings | None = None,
    ) -> None:
        self.settings = settings or RouterSettings()
        found: dict[str, list[Deployment]] = {}
        for deployment in deployments:
            found.setdefault(deployment.model_name, []).append(deployment)
        self._unusable = {
            name: reason for name, reason in (unusable or {}).items() if name not in found
        }
        self._patterns = sorted(
            (name for name in (*found, *self._unusable) if "*" in name), key=len, reverse=True
        )
        self._groups = {
            name: Group(name=name, deployments=tuple(group), is_plain=False)
            for name, group in found.items()
        }
        routed = self._names_with_fallbacks()
        for name, group in self._groups.items():
            self._groups[name] = msgspec.structs.replace(
                group, is_plain=name not in routed and self._is_plain(group)
            )

    def _names_with_fallbacks(self) -> set[str]:
        fallbacks = self.settings.fallbacks
        if _EVERY_OTHER in fallbacks:
            return set(self._groups)
        names = set()
        for name in fallbacks:
            names.add(name)
            try:
                names.add(self.find(name)[0].name)
            except (NotFound, Unauthenticated):
                continue  # It may come at run time, or be made usable.
        return names

    def _is_plain(self, group: Group) -> bool:
        (first, *others) = group.deployments
        has_limits = (first.max_parallel_requests, first.rpm, first.tpm) != (None, None, None)
        return not others and not has_limits and not self.settings.num_retries

    @property
    def names(self) -> list[str]:
        """All model names, patterns and aliases that may be shown, in the file's order."""
        settings = self.settings
        aliases = [
            alias for alias in settings.model_group_alias if alias not in settings.hidden_aliases
        ]
        return [*self._groups, *aliases]

    def target_of(self, model_name: str) -> str:
        """Return the model name that an alias stands for, any other name as it is."""
        return self.settings.model_group_alias.get(model_name, model_name)

    def alias_of(self, model_name: str | None) -> str | None:
        """Return the model name that an alias stands for, None for any other name."""
        return self.settings.model_group_alias.get(model_name) if model_name is not None else None

    def fallbacks_of(self, model_name: str, group: Group) -> tuple[str, ...]:
        """Return the names to try after a name that a client asked for."""
        fallbacks = self.settings.fallbacks
        for name in (model_name, group.name, _EVERY_OTHER):
            found = fallbacks.get(name)
            if found is not None:
                return found
        return ()

    def find(self, model_name: str) -> tuple[Group, str]:
        """Return the group of a model name, and what its star stands for.

        Raises NotFound; Unauthenticated for a model that cannot be served.
        """
        group = self._groups.get(model_name)
        if group is None:
            model_name = self.target_of(model_name)
            group = self._groups.get(model_name)
        if group is not None and "*" not in model_name:
            return group, ""
        return self._by_pattern(model_name)

    def serves(self, model_name: str) -> bool:
        """Tell whether there is a deployment for a model name that may be used."""
        try:
            self.find(model_name)
        except (NotFound, Unauthenticated):
            return False
        return True

    def choose(self, model_name: str, session_id: str | None) -> tuple[Deployment, str]:
        """Return a session's own deployment, well or not, and the upstream's model name.

        Without a session it is any of them, by the weights.

        Raises NotFound; Unauthenticated for a model that cannot be served.
        """
        group, star = self.find(model_name)
        (deployment, *_) = ranked(group.deployments, session_id or secrets.token_hex(8))
        return deployment, model_at(deployment, star)

    def _by_pattern(self, model_name: str) -> tuple[Group, str]:
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
