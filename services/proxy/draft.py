"""A request on its way in: what is known of it, and what it becomes once it may be forwarded."""

import os
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from schemas.client_facts import ClientFacts
from schemas.config import Deployment
from schemas.errors import ApiError
from schemas.events import Endpoint, RequestFacts
from schemas.guardrails import Guardrail
from schemas.registry import KeyRecord, OnQuotaExhausted, TeamRecord, UserRecord
from schemas.usage import Usage
from services.proxy import auth
from services.proxy.body import RequestBody, with_model
from services.proxy.headers import RawHeaders
from services.proxy.rate_permit import Permit
from services.proxy.reservations import Held
from services.proxy.seats import without_oauth_beta
from services.proxy.setup import Setup
from services.proxy.upstream import UpstreamRequest

__all__ = [
    "TEXT_MAX",
    "Admitted",
    "Attempts",
    "Draft",
    "Prepared",
    "new_request_id",
    "now_us",
]

TEXT_MAX = 256
"""A name from outside is cut to so many characters in events."""


class Draft(msgspec.Struct):
    """What is known so far of a request that is being admitted: enough to book a refusal.

    `setup` is the configuration that the request began with and keeps. `on_quota_exhausted` is what
    holds for its key, None where nobody said. `permit` counts it for rate limits, where any holds
    for it, and is to be ended whatever becomes of it; so is `held`, what it holds of its budgets.
    `reserved_usd` is what it may cost at most, where a strict budget counts for it.
    `owners` are the key's team and user, where the registry knows them.
    """

    request_id: str
    started_at_us: int
    endpoint: Endpoint
    setup: Setup
    key: KeyRecord | None = None
    owners: Sequence[TeamRecord | UserRecord] = ()
    guardrails: tuple[Guardrail, ...] = ()
    model_name: str | None = None
    model: str | None = None
    deployment: Deployment | None = None
    billing: str = "api"
    is_stream: bool = False
    session_id: str | None = None
    user_agent: str | None = None
    request_bytes: int = 0
    client: ClientFacts | None = None
    on_quota_exhausted: OnQuotaExhausted | None = None
    permit: Permit | None = None
    held: Held | None = None
    reserved_usd: Decimal | None = None

    @property
    def is_stored(self) -> bool:
        """Whether what is asked and answered is to be kept word for word."""
        own = self.key.store_prompts if self.key is not None else None
        is_stored = self.setup.settings.store_prompts if own is None else own
        return is_stored and self.endpoint == "messages"

    def let_go(self) -> None:
        """Give back what it counts for: it goes no further."""
        if self.permit is not None:
            self.permit.ended()
        if self.held is not None:
            self.held.over()

    def facts(self) -> RequestFacts:
        """Return it as the facts that events carry."""
        key = self.key
        return RequestFacts(
            request_id=self.request_id,
            started_at_us=self.started_at_us,
            endpoint=self.endpoint,
            key_id=key.key_id if key else None,
            key_alias=_cut(key.key_alias) if key else None,
            user_id=_cut(key.user_id) if key else None,
            team_id=_cut(key.team_id) if key else None,
            model_name=self.model_name,
            alias_of=self.setup.router.alias_of(self.model_name),
            model=self.model,
            deployment=self.deployment.deployment_id if self.deployment else None,
            billing="subscription" if self.billing == "subscription" else "api",
            stream=self.is_stream,
            session_id=self.session_id,
            user_agent=self.user_agent,
            request_bytes=self.request_bytes,
            client=self.client,
            reserved_usd=self.reserved_usd,
        )


def _cut(text: str | None) -> str | None:
    """Keep a text from outside within what an event may hold."""
    return text[:TEXT_MAX] if text is not None else None


class Admitted(msgspec.Struct, frozen=True):
    """A request that may be forwarded: the upstream request and the facts for its events.

    `attempts` knows what may be tried after it; None: nothing. `metadata` is that of the body, told
    of requests on a subscription.
    """

    facts: RequestFacts
    upstream: UpstreamRequest
    setup: Setup
    attempts: "Attempts | None" = None
    metadata: msgspec.Raw | None = None


class Attempts(Protocol):
    """The ways that one request may go, one after the other (services.proxy.attempts)."""

    count: int
    wait_s: float

    def succeeded(self) -> None:
        """Note that the present attempt was answered."""

    def broke_off(self) -> None:
        """Note that the answer of the present attempt broke off: it goes no other way."""

    def after_answer(self, status: int, headers: RawHeaders) -> Admitted | None:
        """Return the attempt to make after an answer of this status, None: it goes on."""

    def after_error(self, error: ApiError) -> Admitted | None:
        """Return the attempt to make after there was no answer, None: the client is told."""

    def told(self, error: ApiError) -> ApiError:
        """Return an error for the client, with what was tried."""

    def used(self, usage: Usage | None) -> None:
        """Note what the present attempt used, before it is over."""

    def over(self) -> None:
        """Note that no attempt is under way any more."""


class Prepared(msgspec.Struct, frozen=True):
    """A request that passed its checks and has no deployment yet.

    `headers` are those that are forwarded, without a credential; `own` is the client's own one.
    """

    draft: Draft
    target: bytes
    headers: RawHeaders
    body: bytes
    read: RequestBody
    own: auth.OwnCredential | None

    def credential(
        self, deployment: Deployment, *, may_be_own: bool = True
    ) -> auth.UpstreamCredential:
        """Return the credential for a deployment. Raises Unauthenticated.

        `may_be_own` False: the client's own one is left out.
        """
        setup = self.draft.setup
        origin = setup.origins[deployment.deployment_id]
        return auth.upstream_credential(
            deployment,
            self.own if may_be_own else None,
            own_may_go_there=origin.host in setup.own_credential_hosts,
        )

    def admitted(
        self,
        deployment: Deployment,
        model: str,
        credential: auth.UpstreamCredential,
        *,
        is_paid_instead: bool = False,
    ) -> Admitted:
        """Return the request as it goes to a deployment, which is entered in the draft.

        `is_paid_instead`: the client asked on a subscription, and an API key pays in its place.
        """
        draft = self.draft
        setup = draft.setup
        draft.deployment, draft.model, draft.billing = deployment, model, credential.billing
        head_timeout_s = deployment.timeout_s
        if draft.is_stream and deployment.stream_timeout_s is not None:
            head_timeout_s = deployment.stream_timeout_s
        headers = self.headers
        if is_paid_instead:
            headers = without_oauth_beta(headers)
        return Admitted(
            facts=draft.facts(),
            upstream=UpstreamRequest(
                method=b"POST",
                origin=setup.origins[deployment.deployment_id],
                target=self.target,
                headers=[*headers, (credential.header, credential.value)],
                body=with_model(self.body, self.read, model),
                head_timeout_s=head_timeout_s,
                idle_timeout_s=setup.settings.idle_timeout_s,
            ),
            setup=setup,
            metadata=self.read.metadata if draft.billing == "subscription" else None,
        )


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


def new_request_id(started_at_us: int) -> str:
    """Return a request id that sorts by time: `tg_` and 32 hex digits."""
    return f"tg_{started_at_us:014x}{os.urandom(9).hex()}"
