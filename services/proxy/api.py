"""All of the Anthropic API but the hot path: batches, files, models and what passes through.

docs/api.md lists the paths and says how each is routed, recorded and priced.
"""

import asyncio
import logging

import msgspec

from schemas.errors import ApiError, BadRequest, InternalError
from schemas.events import RequestFacts
from services.proxy import limits
from services.proxy.accounts import Account, Locator, account_for_models, first_account
from services.proxy.accounts import usable_accounts as accounts_of
from services.proxy.admission import Admission, ClientGone
from services.proxy.answers import Receive, Scope, Send, send_error
from services.proxy.auth import OwnCredential
from services.proxy.batch_body import BatchModel, batch_models, with_models
from services.proxy.body import optional_model, with_model
from services.proxy.client_facts import of_headers, with_end_user
from services.proxy.draft import Admitted, Draft, new_request_id, now_us
from services.proxy.guards import refuse_unchecked
from services.proxy.headers import RawHeaders, forwardable_request_headers, header_values
from services.proxy.model_pages import answer_models
from services.proxy.outbox import Outbox
from services.proxy.passing import PassingExchange, ResultsExchange
from services.proxy.paths import API_PATHS, Found, find_path
from services.proxy.refusals import Refusals
from services.proxy.relay import Relay, with_own_results_url
from services.proxy.upload import ClientUpload
from services.proxy.upstream import Transport, UpstreamBroke, UpstreamRequest

__all__ = ["BATCH_PIECE", "Api"]

log = logging.getLogger(__name__)

BATCH_PIECE = 200
"""So many requests of a new batch are read in one go; other requests are served in between."""
DEPLOYMENT_HEADER = b"x-tallygate-deployment"
_TEXT_MAX = 256
_BATCHES, _BATCH = API_PATHS[2].template, API_PATHS[3].template
_RESULTS = API_PATHS[5].template
_FILES = API_PATHS[6].template
_PAID = "POST"
_BRINGING = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests bring content, where they are about nothing that is there already."""


class ApiDraft(Draft):
    """A draft that also knows its path."""

    path: str | None = None
    batch_id: str | None = None

    def facts(self) -> RequestFacts:
        """Return it as the facts that events carry."""
        return msgspec.structs.replace(super().facts(), path=self.path, batch_id=self.batch_id)


class _Asked(msgspec.Struct, frozen=True):
    """A request that was looked at: what it is, and what may be sent on of it."""

    method: str
    found: Found
    query: bytes
    headers: RawHeaders
    forwarded: RawHeaders
    receive: Receive
    draft: ApiDraft
    own: OwnCredential | None
    accounts: list[Account]

    @property
    def is_paid(self) -> bool:
        """Whether it may cost something: a new batch, or what passes through."""
        is_new_batch = self.method == _PAID and self.found.template == _BATCHES
        return is_new_batch or self.found.endpoint == "pass_through"


class _Order(msgspec.Struct):
    """What is to be sent, and where."""

    account: Account
    body: bytes = b""
    upload: ClientUpload | None = None


class Api:
    """Serves the paths of `services.proxy.paths` that are not the hot path's."""

    def __init__(
        self, *, admission: Admission, outbox: Outbox, transport: Transport, refusals: Refusals
    ) -> None:
        self._admission = admission
        self._outbox = outbox
        self._transport = transport
        self._refusals = refusals
        self._locator = Locator(transport)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started_at_us = now_us()
        plain = self._admission.draft(new_request_id(started_at_us), started_at_us, "pass_through")
        draft = ApiDraft(plain.request_id, started_at_us, "pass_through", plain.setup)
        try:
            paths = draft.setup.settings.pass_through_paths
            found = find_path(scope["method"], scope["raw_path"], paths)
            if found.endpoint is None:
                await answer_models(self._admission, draft, scope, found, send)
                return
            draft.endpoint, draft.path = found.endpoint, found.path[:_TEXT_MAX]
            draft.batch_id = found.item_id if found.endpoint == "batches" else None
            asked = self._look_at(scope, receive, found, draft)
            order = await self._order(asked)
            if asked.is_paid:
                await self._admission.wait_rates(draft)
            admitted = self._admit(asked, order)
        except ApiError as error:
            if draft.path is not None:
                self._refusals.book(error, draft)
            await send_error(send, error, draft.request_id)
            return
        except ClientGone:
            return
        except Exception:
            log.exception("a request could not be admitted")
            draft.let_go()
            fault = InternalError("The gateway failed; its log says how")
            await send_error(send, fault, draft.request_id)
            return
        await self._exchange(asked, order, admitted, send)

    # ------------------------------------------------------------------------- admission

    def _look_at(self, scope: Scope, receive: Receive, found: Found, draft: ApiDraft) -> _Asked:
        headers: RawHeaders = list(scope["headers"])
        agents = header_values(headers, b"user-agent")
        draft.user_agent = agents[0].decode("latin-1")[:_TEXT_MAX] if agents else None
        known = dict(headers)
        draft.client = of_headers(known)
        credentials = self._admission.identify(headers, draft, scope["method"], found.path)
        assert draft.key is not None
        if draft.key.names_end_users:
            draft.client = with_end_user(draft.client, known)
        own = self._admission.own_credential(credentials, draft)
        wanted = header_values(headers, DEPLOYMENT_HEADER)
        try:
            forwarded = forwardable_request_headers(headers)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        if found.endpoint == "batches":
            # Their answers are read: packed ones would have to be unpacked first.
            forwarded = [each for each in forwarded if each[0] != b"accept-encoding"]
            forwarded.append((b"accept-encoding", b"identity"))
        return _Asked(
            method=scope["method"],
            found=found,
            query=scope["query_string"],
            headers=headers,
            forwarded=forwarded,
            receive=receive,
            draft=draft,
            own=own,
            accounts=accounts_of(
                draft.setup,
                draft.key,
                own,
                wanted[0].decode("latin-1") if wanted else None,
                draft.owners,
            ),
        )

    async def _order(self, asked: _Asked) -> _Order:
        """Return what is to be sent, and where. Raises ApiError, ClientGone."""
        found, draft = asked.found, asked.draft
        if asked.method in _BRINGING and found.item_id is None:
            assert draft.key is not None
            draft.guardrails = draft.setup.guards.chosen(draft.key, draft.owners)
            if found.template != _BATCHES:
                is_file = asked.method == _PAID and found.template == _FILES
                refuse_unchecked(draft.guardrails, is_file=is_file)
        if asked.is_paid:
            self._admission.check_budget(draft)
        if found.endpoint == "pass_through":
            return await self._pass_through(asked)
        if asked.is_paid:
            return await self._new_batch(asked)
        if asked.method == _PAID and found.template == _FILES:
            if any(each.looks_at_requests and each.action != "log" for each in draft.guardrails):
                body = await self._admission.read(asked.headers, asked.receive, draft)
                body = await self._admission.guarded_file(draft, asked.headers, body)
                return _Order(first_account(asked.accounts), body)
            settings = draft.setup.settings
            upload = ClientUpload(
                asked.headers,
                asked.receive,
                bytes_max=settings.upload_bytes_max,
                silence_s_max=settings.client_body_timeout_s,
            )
            draft.request_bytes = upload.length or 0
            return _Order(first_account(asked.accounts), upload=upload)
        body = await self._admission.read(asked.headers, asked.receive, draft)
        if found.item_id is None:
            return _Order(first_account(asked.accounts), body)
        root = _BATCHES if found.endpoint == "batches" else _FILES
        account = await self._locator.find(
            found.item_id,
            f"{root}/{found.item_id}".encode(),
            asked.forwarded,
            asked.accounts,
            draft.setup,
        )
        return _Order(account, body)

    async def _new_batch(self, asked: _Asked) -> _Order:
        draft = asked.draft
        assert draft.key is not None
        body = await self._admission.read(asked.headers, asked.receive, draft)
        found: list[BatchModel] = []
        names: dict[str, str] = {}
        for model in batch_models(body):
            if model.name not in names:
                name = draft.model_name = limits.meant_model(draft.key, model.name)
                meant = draft.setup.router.target_of(name)
                limits.check_model(draft.key, name, meant, draft.owners, model.name)
                self._admission.check_budget(draft)
                names[model.name] = name
            found.append(model)
            if len(found) % BATCH_PIECE == 0:
                await asyncio.sleep(0)
        if draft.guardrails:
            guarded = await self._admission.guarded(draft, asked.headers, body)
            if guarded is not body:
                body, found = guarded, list(batch_models(guarded))
        spelled = account_for_models(draft.setup, asked.own, asked.accounts, names.values())
        draft.model_name = draft.model = None
        if len(spelled.names) == 1:
            ((draft.model_name, draft.model),) = spelled.names.items()
        upstream = {name: spelled.names[meant] for name, meant in names.items()}
        return _Order(spelled.account, with_models(body, found, upstream))

    async def _pass_through(self, asked: _Asked) -> _Order:
        draft = asked.draft
        assert draft.key is not None
        body = await self._admission.read(asked.headers, asked.receive, draft)
        read = optional_model(body, is_json=_is_json(asked.headers))
        if read is None:
            return _Order(first_account(asked.accounts), body)
        name = draft.model_name = limits.meant_model(draft.key, read.model)
        meant = draft.setup.router.target_of(name)
        limits.check_model(draft.key, name, meant, draft.owners, read.model)
        self._admission.check_budget(draft)
        spelled = account_for_models(draft.setup, asked.own, asked.accounts, [name])
        draft.model = spelled.names[name]
        return _Order(spelled.account, with_model(body, read, draft.model))

    def _admit(self, asked: _Asked, order: _Order) -> Admitted:
        draft, account = asked.draft, order.account
        draft.deployment = account.deployment
        draft.billing = account.credential.billing
        self._outbox.check_room()
        if asked.is_paid:
            self._admission.check_rates(draft)
        path = asked.found.path.encode()
        credential = account.credential
        return Admitted(
            facts=draft.facts(),
            upstream=UpstreamRequest(
                method=asked.method.encode(),
                origin=account.origin,
                target=path + b"?" + asked.query if asked.query else path,
                headers=[*asked.forwarded, (credential.header, credential.value)],
                body=order.body,
                head_timeout_s=account.deployment.timeout_s,
                idle_timeout_s=draft.setup.settings.idle_timeout_s,
                upload=order.upload,
            ),
            setup=draft.setup,
        )

    # -------------------------------------------------------------------------- forwarding

    async def _exchange(self, asked: _Asked, order: _Order, admitted: Admitted, send: Send) -> None:
        is_results = asked.found.template == _RESULTS
        deployment = order.account.deployment.deployment_id

        def rewrite(answer: bytes) -> bytes:
            if asked.method == _PAID and asked.found.template == _BATCHES:
                exchange.learn_batch(answer)
            return with_own_results_url(answer)

        async def pace() -> None:
            await self._wait_room(admitted.setup.settings.idle_timeout_s)

        is_read = asked.found.endpoint == "batches" and not is_results
        relay = Relay(
            self._transport,
            added=[(DEPLOYMENT_HEADER, deployment.encode("latin-1", "replace"))],
            rewrite=rewrite if is_read else None,
            pace=pace if is_results else None,
        )
        kind = ResultsExchange if is_results else PassingExchange
        permit = asked.draft.permit
        exchange = kind(admitted, outbox=self._outbox, transport=relay, permit=permit)
        receive = order.upload.receive if order.upload is not None else asked.receive
        await exchange.run(receive, send)

    async def _wait_room(self, timeout_s: float) -> None:
        """Wait until results may be booked. Raises UpstreamBroke where that takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._outbox.wait_room()
                await asyncio.sleep(0)
        except TimeoutError:
            raise UpstreamBroke(
                "the gateway cannot record more results at the moment (its outbox fills up)"
            ) from None


def _is_json(headers: RawHeaders) -> bool:
    return any(b"json" in kind.lower() for kind in header_values(headers, b"content-type"))
