"""Which account of the API a request is for that names no model: batches and files live in one.

An account is a place and a credential. Those that a key may use are the accounts of its models'
deployments, in the order of the configuration. The rule (docs/api.md):

1. `x-tallygate-deployment` names a deployment: its account.
2. A new batch: the first account that serves all of its models.
3. A path with an id: the account that knows the id; where there are several, they are asked.
4. Everything else: the first account.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from schemas.config import Deployment
from schemas.errors import ApiError, BadRequest, Forbidden, NotFound, Unauthenticated
from schemas.registry import KeyRecord, OwnerRecord
from services.proxy.auth import OwnCredential, UpstreamCredential, upstream_credential
from services.proxy.headers import RawHeaders
from services.proxy.routing import model_at
from services.proxy.setup import Setup
from services.proxy.upstream import Origin, Transport, UpstreamRequest
from services.runtime.model_names import key_models, matches

__all__ = [
    "ACCOUNTS_ASKED_MAX",
    "LOCATED_MAX",
    "Account",
    "Locator",
    "Spelled",
    "account_for_models",
    "first_account",
    "usable_accounts",
]

ACCOUNTS_ASKED_MAX = 16
"""One request for an id asks at most so many accounts; those beyond need the header."""
LOCATED_MAX = 10_000
"""Ids of which the account is remembered; of others it is asked for again."""
_LISTED_MAX = 20


class Account(msgspec.Struct, frozen=True):
    """An account, and the deployment through which it is used."""

    deployment: Deployment
    origin: Origin
    credential: UpstreamCredential

    @property
    def identity(self) -> tuple[Origin, bytes, bytes]:
        """What two deployments of one account have in common."""
        return self.origin, self.credential.header, self.credential.value


class Spelled(msgspec.Struct, frozen=True):
    """An account that serves some models, and what each is called there."""

    account: Account
    names: dict[str, str]


def _may_use(record: KeyRecord | OwnerRecord, model_name: str) -> bool:
    """Tell whether one may use anything of a deployment's model name, which may be a pattern."""
    models = key_models(record) if isinstance(record, KeyRecord) else record.models
    return not models or any(
        matches(allowed, model_name) is not None or matches(model_name, allowed) is not None
        for allowed in models
    )


def _account(setup: Setup, deployment: Deployment, own: OwnCredential | None) -> Account:
    origin = setup.origins[deployment.deployment_id]
    credential = upstream_credential(
        deployment, own, own_may_go_there=origin.host in setup.own_credential_hosts
    )
    return Account(deployment, origin, credential)


def usable_accounts(
    setup: Setup,
    record: KeyRecord,
    own: OwnCredential | None,
    wanted: str | None,
    owners: Sequence[OwnerRecord] = (),
) -> list[Account]:
    """Return the accounts that a key may use, each once; with `wanted` that deployment's alone.

    What the key may use, its `owners` must be allowed, too.

    Raises Unauthenticated where none has a credential, Forbidden where the key may use none,
    BadRequest for a wanted one that is none of them.
    """
    holders: list[KeyRecord | OwnerRecord] = [record, *owners]
    mine = [
        each
        for each in setup.deployments
        if all(_may_use(holder, each.model_name) for holder in holders)
    ]
    if wanted is not None:
        ids = [each.deployment_id for each in mine]
        mine = [each for each in mine if each.deployment_id == wanted]
        if not mine:
            raise BadRequest(
                f"x-tallygate-deployment: this key has no deployment {wanted[:100]!r}. "
                f"It has: {', '.join(ids[:_LISTED_MAX]) or 'none'}"
            )
    accounts: dict[tuple[Origin, bytes, bytes], Account] = {}
    missing: Unauthenticated | None = None
    for deployment in mine:
        try:
            account = _account(setup, deployment, own)
        except Unauthenticated as error:
            missing = missing or error
            continue
        accounts.setdefault(account.identity, account)
    if not accounts:
        raise missing or Forbidden("The virtual key may use no model that is configured here")
    return list(accounts.values())


def first_account(accounts: Sequence[Account]) -> Account:
    """Return the account for what names neither a model nor an id."""
    return accounts[0]


def account_for_models(
    setup: Setup, own: OwnCredential | None, accounts: Sequence[Account], models: Iterable[str]
) -> Spelled:
    """Return the first of some accounts that serves all of some models.

    Raises NotFound for a model that is not configured, Unauthenticated for one without a
    credential, BadRequest where no account serves all of them.
    """
    served: dict[tuple[Origin, bytes, bytes], Spelled] = {}
    for place, name in enumerate(models):
        here = _places(setup, own, name)
        for identity, (account, upstream_name) in here.items():
            if place == 0:
                served[identity] = Spelled(account, {name: upstream_name})
            elif identity in served:
                served[identity].names[name] = upstream_name
        served = {identity: found for identity, found in served.items() if identity in here}
    for account in accounts:
        if account.identity in served:
            return served[account.identity]
    raise BadRequest(
        "No deployment of this key serves all models of this request: a batch must have models of "
        "one account alone. Make a batch for each account"
    )


def _places(
    setup: Setup, own: OwnCredential | None, name: str
) -> dict[tuple[Origin, bytes, bytes], tuple[Account, str]]:
    """Return where a model is served, and what it is called there."""
    group, star = setup.router.find(name)
    found: dict[tuple[Origin, bytes, bytes], tuple[Account, str]] = {}
    missing: Unauthenticated | None = None
    for deployment in group.deployments:
        try:
            account = _account(setup, deployment, own)
        except Unauthenticated as error:
            missing = missing or error
            continue
        found.setdefault(account.identity, (account, model_at(deployment, star)))
    if not found:
        raise missing or NotFound(f"The model {name[:100]!r} has no deployment")
    return found


class Locator:
    """Finds out in which account a batch or a file lives, and remembers it for a while."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: OrderedDict[str, tuple[Origin, bytes, bytes]] = OrderedDict()

    async def find(
        self,
        item_id: str,
        path: bytes,
        headers: RawHeaders,
        accounts: Sequence[Account],
        setup: Setup,
    ) -> Account:
        """Return the account that knows an id, the first one where none does.

        `path` is asked with GET, `headers` are the client's that may be sent on.
        """
        if len(accounts) == 1:
            return accounts[0]
        known = self._known.get(item_id)
        for account in accounts:
            if account.identity == known:
                self._known.move_to_end(item_id)
                return account
        for account in accounts[:ACCOUNTS_ASKED_MAX]:
            if await self._has(account, path, headers, setup):
                self._known[item_id] = account.identity
                if len(self._known) > LOCATED_MAX:
                    self._known.popitem(last=False)
                return account
        return accounts[0]

    async def _has(self, account: Account, path: bytes, headers: RawHeaders, setup: Setup) -> bool:
        credential = account.credential
        request = UpstreamRequest(
            method=b"GET",
            origin=account.origin,
            target=path,
            headers=[*headers, (credential.header, credential.value)],
            body=b"",
            head_timeout_s=account.deployment.timeout_s,
            idle_timeout_s=setup.settings.idle_timeout_s,
        )
        try:
            response = await self._transport.handle_async_request(request)
        except ApiError:
            return False
        is_there = 200 <= response.status < 300  # noqa: PLR2004
        await response.aclose()
        return is_there
