"""Admission: from a raw request to one that may be forwarded, or a refusal."""

import asyncio
from collections.abc import Callable
from itertools import chain

from schemas.config import Settings
from schemas.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    Forbidden,
    HeadersTooLarge,
    RateLimited,
    Unavailable,
)
from schemas.events import Endpoint
from schemas.keys import hash_key
from services.proxy import auth, limits
from services.proxy.answers import Receive
from services.proxy.attempts import first_attempt
from services.proxy.body import RequestBody, read_body
from services.proxy.budgets import SpentBudgets
from services.proxy.client_facts import client_of, with_end_user
from services.proxy.client_identity import identity_of
from services.proxy.draft import TEXT_MAX, Admitted, Draft, Prepared
from services.proxy.form_texts import OddForm, texts_of_form, with_texts
from services.proxy.guarding import Guarding
from services.proxy.headers import RawHeaders, forwardable_request_headers, header_values
from services.proxy.health import Health
from services.proxy.holding import hold, is_uncounted, possible_models, wait_known
from services.proxy.rates import Rates
from services.proxy.reservations import Reservations
from services.proxy.routing import Group, model_at
from services.proxy.seats import SpentSeats, quota_rule
from services.proxy.setup import CurrentSetup, Setup
from services.runtime.registry import RegistrySnapshot

__all__ = [
    "Admission",
    "BodyTooSlow",
    "ClientGone",
]

HEADERS_MAX = 200
HEADER_BYTES_MAX = 64 * 1024
BODY_TIMEOUTS_MAX = 10
"""A body that always comes on, but slowly, may take so many times `client_body_timeout_s`."""
_HOT_PATHS = {"messages": "/v1/messages", "count_tokens": "/v1/messages/count_tokens"}


class ClientGone(Exception):
    """The client closed its connection before its request was whole."""


class Admission:
    """The checks that every request passes, in order, each in memory."""

    def __init__(
        self,
        *,
        current: CurrentSetup,
        registry: RegistrySnapshot,
        budgets: SpentBudgets,
        check_room: Callable[[], None],
        health: Health,
        seats: SpentSeats,
        rates: Rates,
        guarding: Guarding,
        reservations: Reservations,
    ) -> None:
        self._current = current
        self._registry = registry
        self._budgets = budgets
        self._check_room = check_room
        self._health = health
        self.seats = seats
        self._rates = rates
        self._guarding = guarding
        self._reservations = reservations

    def draft(self, request_id: str, started_at_us: int, endpoint: Endpoint) -> Draft:
        """Return the draft of a request that begins now, under the setup of this moment."""
        return Draft(request_id, started_at_us, endpoint, self._current.setup)

    def identify(
        self, headers: RawHeaders, draft: Draft, method: str, path: str
    ) -> auth.Credentials:
        """Set the draft's key. Raises ApiError for a request without a usable virtual key.

        `method` and `path` (without a prefix) are those of the request.
        """
        _check_headers(headers)
        if not self._registry.loaded:
            raise Unavailable(
                "The gateway has not read its keys yet (NATS is not there). Try again shortly",
                {"retry-after": "1"},
            )
        credentials = auth.find_credentials(headers)
        draft.key = auth.identify(credentials, self._registry.by_hash, draft.setup.master_key_hash)
        limits.check_key(draft.key, draft.started_at_us)
        if draft.key.allowed_routes:
            limits.check_route(draft.key, method, path)
        draft.owners = self._registry.owners_of(draft.key)
        for owner in draft.owners:
            limits.check_owner(draft.key, owner)
        draft.on_quota_exhausted = quota_rule(draft.key, draft.owners)
        return credentials

    async def admit(
        self,
        target: bytes,
        headers: RawHeaders,
        receive: Receive,
        draft: Draft,
        *,
        is_whole: bool = False,
    ) -> Admitted:
        """Return the request to forward. Raises ApiError; ClientGone.

        `is_whole`: the body has been received, `receive` gives all of it and waits for nothing.
        `draft` is filled in as far as the checks come, so that a refusal says whose it was.
        """
        known = dict(headers)
        agent = known.get(b"user-agent")
        draft.user_agent = agent.decode("latin-1")[:TEXT_MAX] if agent is not None else None
        credentials = self.identify(headers, draft, "POST", _HOT_PATHS[draft.endpoint])
        assert draft.key is not None
        setup = draft.setup
        body = await self.read(headers, receive, draft, is_whole=is_whole)
        read = read_body(body)
        name = draft.model_name = limits.meant_model(draft.key, read.model)
        draft.is_stream = read.is_stream
        told = known.get(b"x-claude-code-session-id")
        session = (
            told.decode("latin-1") if told is not None else identity_of(read.metadata).session_id
        )
        draft.session_id = session[:TEXT_MAX] if session else None
        draft.client = client_of(known, body, read, is_count=draft.endpoint == "count_tokens")
        if draft.key.names_end_users:
            draft.client = with_end_user(draft.client, known)
        meant = setup.router.target_of(name)
        limits.check_model(draft.key, name, meant, draft.owners, read.model)
        group, star = setup.router.find(name)
        if group.is_plain:
            draft.deployment = group.deployments[0]
            draft.model = model_at(draft.deployment, star)
        draft.guardrails = setup.guards.chosen(draft.key, draft.owners)
        if draft.endpoint == "messages":
            self.check_budget(draft)
        if draft.guardrails:
            body, read = await self._guarded(draft, headers, body, read)
        own = self.own_credential(credentials, draft)
        try:
            forwarded = forwardable_request_headers(headers)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        prepared = Prepared(draft, target, forwarded, body, read, own)
        if draft.endpoint == "messages":
            await self._hold(prepared, group, star)
        await self.wait_rates(draft, group)
        return self._choose(prepared, group, star)

    def _choose(self, prepared: Prepared, group: Group, star: str) -> Admitted:
        """Return the request with its deployment, and its first attempt where there are several.

        Raises Unauthenticated, Unavailable; RateLimited.
        """
        draft, own = prepared.draft, prepared.own
        may_be_paid = draft.on_quota_exhausted == "pay" and own is not None and own.is_subscription
        if draft.deployment is None or draft.model is None or may_be_paid:
            self._check_room()
            try:
                admitted = first_attempt(
                    prepared, group, star, self._health, self.seats, self._rates
                )
            except RateLimited as refusal:
                _advise(refusal, draft)
                raise
            try:
                self.check_rates(draft)
            except RateLimited:
                assert admitted.attempts is not None
                admitted.attempts.over()
                raise
            return admitted
        credential = prepared.credential(draft.deployment)
        self._check_room()
        self.check_rates(draft)
        return prepared.admitted(draft.deployment, draft.model, credential)

    async def _guarded(
        self, draft: Draft, headers: RawHeaders, body: bytes, read: RequestBody
    ) -> tuple[bytes, RequestBody]:
        """Return a body that passed its guardrails, as they masked it. Raises Forbidden."""
        guarded = await self.guarded(draft, headers, body)
        return (body, read) if guarded is body else (guarded, read_body(guarded))

    async def guarded(self, draft: Draft, headers: RawHeaders, body: bytes) -> bytes:
        """Return a body that passed its draft's guardrails, the same where nobody masked it.

        Raises Forbidden, BadRequest; Unavailable where one cannot be asked.
        """
        return await self._guarding.check(draft, headers, body)

    async def guarded_file(self, draft: Draft, headers: RawHeaders, body: bytes) -> bytes:
        """Return the form of a file that passed its draft's guardrails, as guarded does.

        Raises Forbidden, also where they cannot look at it; Unavailable.
        """
        try:
            texts = await asyncio.to_thread(texts_of_form, headers, body)
        except OddForm as odd:
            raise Forbidden(
                f"A guardrail of this key looks at files, and cannot look at this one: {odd.reason}"
            ) from None
        passed = await self._guarding.check_file(draft, [each.text for each in texts])
        return with_texts(body, texts, passed)

    async def _hold(self, prepared: Prepared, group: Group, star: str) -> None:
        """Set what the draft holds of its budgets. Raises BudgetSpent; RateLimited; Unavailable."""
        draft = prepared.draft
        assert draft.key is not None
        if draft.key.strict_budget or any(each.strict_budget for each in draft.owners):
            await wait_known(self._reservations, draft)
        marks = self._reservations.of(draft.key, draft.model_name)
        if marks and not is_uncounted(prepared):
            models = possible_models(draft, group, star)
            draft.held = await hold(self._reservations, marks, prepared, models)

    def check_rates(self, draft: Draft) -> None:
        """Set the draft's permit. Raises RateLimited where a rate limit is reached.

        This is the last check, so that what is refused for anything else counts for no limit.
        """
        assert draft.key is not None
        if draft.endpoint == "count_tokens":
            return
        try:
            draft.permit = self._rates.admit(
                draft.key, draft.model_name or "", draft.setup.router, draft.request_bytes
            )
        except RateLimited as refusal:
            _advise(refusal, draft)
            raise

    async def wait_rates(self, draft: Draft, group: Group | None = None) -> None:
        """Wait a moment for what other workers say of rate limits, where that is needed."""
        if self._rates.workers > 1 and draft.endpoint != "count_tokens":
            assert draft.key is not None
            if group is not None and not group.is_plain:
                await self._rates.wait_deployments(group.deployments)
            await self._rates.wait_word(draft.key, draft.model_name or "", draft.setup.router)

    def check_budget(self, draft: Draft) -> None:
        """Raise BudgetSpent where the budget of the draft's key, its user or its team is spent."""
        assert draft.key is not None
        for state in self._budgets.of(draft.key, draft.model_name):
            if limits.is_exceeded(state, draft.started_at_us):
                message = draft.setup.settings.budget_message
                raise limits.budget_refusal(state, draft.started_at_us, message)

    async def read(
        self, headers: RawHeaders, receive: Receive, draft: Draft, *, is_whole: bool = False
    ) -> bytes:
        """Return a request's whole body. Raises BodyTooLarge, BodyTooSlow; ClientGone."""
        read = _read_whole if is_whole else _read
        body = await read(headers, receive, draft.setup.settings)
        draft.request_bytes = len(body)
        return body

    def own_credential(
        self, credentials: auth.Credentials, draft: Draft
    ) -> auth.OwnCredential | None:
        """Return the client's own credential among those that it sent, None: there is none."""
        return auth.own_credential(credentials, self._is_gateway_secret(draft.setup))

    def _is_gateway_secret(self, setup: Setup) -> Callable[[str], bool]:
        """Return what tells whether a value is a secret of this gateway's own."""

        def is_secret(value: str) -> bool:
            value_hash = hash_key(value)
            return value_hash in setup.secret_hashes or self._registry.knew_hash(value_hash)

        return is_secret


def _advise(refusal: RateLimited, draft: Draft) -> None:
    """Have the client not wait for longer than the setting says."""
    if int(refusal.headers["retry-after"]) > draft.setup.settings.rate_limit_wait_s_max:
        refusal.headers["x-should-retry"] = "false"


async def _read_whole(_: RawHeaders, receive: Receive, settings: Settings) -> bytes:
    """Return a body that has been received."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message["body"]
    if len(body) > settings.request_bytes_max:
        raise _too_large(settings)
    return body


def _too_large(settings: Settings) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {settings.request_bytes_max} bytes")


async def _read(headers: RawHeaders, receive: Receive, settings: Settings) -> bytes:
    """Return a body that is still coming, within its limits of size and time."""
    bytes_max = settings.request_bytes_max
    lengths = header_values(headers, b"content-length")
    if lengths and lengths[0].isdigit() and int(lengths[0]) > bytes_max:
        raise _too_large(settings)
    timeout_s = settings.client_body_timeout_s
    loop = asyncio.get_running_loop()
    latest_s = loop.time() + BODY_TIMEOUTS_MAX * timeout_s
    chunks = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s) as limit:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > bytes_max:
                    raise _too_large(settings)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
                limit.reschedule(min(loop.time() + timeout_s, latest_s))
    except TimeoutError:
        raise BodyTooSlow(
            f"The request body stood still for {timeout_s:g} s, or was too slow",
            {"connection": "close"},
        ) from None


class BodyTooSlow(ApiError):
    """408: the request's body did not come in time."""

    http_status = 408
    error_type = "timeout_error"


def _check_headers(headers: RawHeaders) -> None:
    """Raise HeadersTooLarge or BadRequest for headers that no client of this API sends."""
    if len(headers) > HEADERS_MAX:
        raise HeadersTooLarge(
            f"The request has more than {HEADERS_MAX} headers: send fewer"
            " (Claude Code: ANTHROPIC_CUSTOM_HEADERS)"
        )
    if sum(map(len, chain.from_iterable(headers))) > HEADER_BYTES_MAX:
        raise HeadersTooLarge(
            f"The request's headers are longer than {HEADER_BYTES_MAX} bytes: send shorter ones"
            " (Claude Code: ANTHROPIC_CUSTOM_HEADERS)"
        )
    known = dict(headers)
    if b"content-length" in known and b"transfer-encoding" in known:
        raise BadRequest("The request has both Content-Length and Transfer-Encoding")
