"""Which account is asked for what names no model."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas.config import Deployment, GatewayConfig
from schemas.errors import BadRequest, Forbidden, NotFound, Unauthenticated, UpstreamUnreachable
from schemas.registry import KeyRecord, TeamRecord
from services.proxy.accounts import (
    ACCOUNTS_ASKED_MAX,
    LOCATED_MAX,
    Account,
    Locator,
    account_for_models,
    usable_accounts,
)
from services.proxy.auth import OwnCredential
from services.proxy.setup import Setup, make_setup
from services.proxy.upstream import UpstreamRequest, UpstreamResponse

OWN = OwnCredential(b"authorization", b"Bearer sk-ant-oat01-mine", is_subscription=True)


def setup_of(*deployments: Deployment) -> Setup:
    config = GatewayConfig(path="config.yaml", deployments=deployments)
    return make_setup(config, "sk-master-0123456789abcdef")


def deployment(name: str, **fields: Any) -> Deployment:
    values = {"deployment_id": f"{name}/0", "model": "m", "api_key": "sk-ant-a", **fields}
    return Deployment(model_name=name, **values)


def key(*models: str) -> KeyRecord:
    return KeyRecord(key_id="k", key_hash="h", key_name="sk-...k", models=models)


def ids(accounts: list[Account]) -> list[str]:
    return [account.deployment.deployment_id for account in accounts]


def test_deployments_of_one_place_and_credential_are_one_account() -> None:
    # Given deployments that share a key and a place, and others, then each account comes once, in
    # the order of the configuration.
    setup = setup_of(
        deployment("a"),
        deployment("b"),
        deployment("c", api_key="sk-ant-other"),
        deployment("d", api_base="https://elsewhere.example"),
    )
    assert ids(usable_accounts(setup, key(), None, None)) == ["a/0", "c/0", "d/0"]
    assert ids(usable_accounts(setup, key(), None, "b/0")) == ["b/0"]


@pytest.mark.parametrize(
    ("models", "found"),
    [
        ((), ["claude-*/0", "gpt/0"]),
        (("claude-opus-4",), ["claude-*/0"]),
        (("claude-opus-*",), ["claude-*/0"]),
        (("*",), ["claude-*/0", "gpt/0"]),
        (("g*",), ["gpt/0"]),
    ],
)
def test_a_key_has_the_accounts_of_its_models_alone(
    models: tuple[str, ...], found: list[str]
) -> None:
    # Given a key for some models or patterns, then only what serves any of them is its account.
    setup = setup_of(deployment("claude-*"), deployment("gpt", api_key="sk-ant-g"))
    assert ids(usable_accounts(setup, key(*models), None, None)) == found
    team = TeamRecord(team_id="t", models=models)
    assert ids(usable_accounts(setup, key(), None, None, [team])) == found


def test_what_cannot_be_used_says_why() -> None:
    # Given no deployment for the key, none of that id, or none with a credential, then the error
    # says which it is.
    setup = setup_of(deployment("a", api_key=None), deployment("b", api_key=None))
    with pytest.raises(Forbidden):
        usable_accounts(setup, key("z"), None, None)
    with pytest.raises(BadRequest, match="a/0"):
        usable_accounts(setup, key("a"), None, "b/0")
    with pytest.raises(Unauthenticated, match="api_key"):
        usable_accounts(setup, key(), None, None)


def test_a_client_s_own_credential_makes_an_account_where_it_may_go() -> None:
    # Given forwarding for one of two models, then the client's account is that one's, the
    # company's the other's.
    setup = setup_of(deployment("own", forward_client_auth=True), deployment("company"))
    first, second = usable_accounts(setup, key(), OWN, None)
    assert (first.credential.value, first.credential.billing) == (OWN.value, "subscription")
    assert (second.credential.value, second.credential.billing) == (b"sk-ant-a", "api")


def test_models_lead_to_the_first_account_that_serves_all_of_them() -> None:
    # Given models with several deployments, then the account that they share is taken, and each
    # model has the name that it has there.
    setup = setup_of(
        deployment("one", model="up-1a", api_key="sk-ant-a"),
        deployment("one", model="up-1b", api_key="sk-ant-b", deployment_id="one/1"),
        deployment("two", model="up-2b", api_key="sk-ant-b"),
        deployment("x-*", model="y-*", api_key="sk-ant-b"),
    )
    accounts = usable_accounts(setup, key(), None, None)
    found = account_for_models(setup, None, accounts, ["one", "two", "x-7"])
    assert found.account.credential.value == b"sk-ant-b"
    assert found.names == {"one": "up-1b", "two": "up-2b", "x-7": "y-7"}
    first = account_for_models(setup, None, accounts, ["one"])
    assert (first.account.credential.value, first.names) == (b"sk-ant-a", {"one": "up-1a"})
    with pytest.raises(NotFound):
        account_for_models(setup, None, accounts, ["one", "gone"])
    chosen = usable_accounts(setup, key(), None, "one/0")
    with pytest.raises(BadRequest, match="one account"):
        account_for_models(setup, None, chosen, ["one", "two"])


class Knows:
    """A transport whose accounts with certain credentials know every id."""

    def __init__(self, *credentials: bytes) -> None:
        self.credentials = set(credentials)
        self.asked: list[bytes] = []

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        credential = request.headers[-1][1]
        self.asked.append(credential)
        if credential == b"sk-ant-broken":
            raise UpstreamUnreachable("no", kind="upstream_connect", was_sent=False)
        return _Answer(200 if credential in self.credentials else 404)

    async def aclose(self) -> None:
        """Nothing to close."""


class _Answer:
    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: list[tuple[bytes, bytes]] = []

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        yield b"", True

    async def aclose(self) -> None:
        # As a connection that is given back: it forgets its answer.
        self.status = 0


def many(count: int) -> tuple[Setup, list[Account]]:
    names = [f"m{number}" for number in range(count)]
    setup = setup_of(*(deployment(name, api_key=f"sk-ant-{name}") for name in names))
    return setup, usable_accounts(setup, key(), None, None)


def test_an_id_is_asked_for_once_and_no_account_twice() -> None:
    # Given an id in the third account, then three are asked, the next time none.
    setup, accounts = many(5)
    transport = Knows(b"sk-ant-m2")
    locator = Locator(transport)

    async def find() -> bytes:
        found = await locator.find("file_1", b"/v1/files/file_1", [], accounts, setup)
        return found.credential.value

    assert asyncio.run(find()) == b"sk-ant-m2"
    assert transport.asked == [b"sk-ant-m0", b"sk-ant-m1", b"sk-ant-m2"]
    assert asyncio.run(find()) == b"sk-ant-m2"
    assert len(transport.asked) == 3


def test_an_id_that_nobody_knows_is_the_first_account_s_and_few_are_asked() -> None:
    # Given very many accounts, one of them out of reach, then a bounded number is asked, and a
    # single account never.
    setup, accounts = many(ACCOUNTS_ASKED_MAX + 5)
    transport = Knows()
    find = Locator(transport).find
    found = asyncio.run(find("x", b"/v1/files/x", [], accounts, setup))
    assert found is accounts[0]
    assert len(transport.asked) == ACCOUNTS_ASKED_MAX
    setup, accounts = many(1)
    assert asyncio.run(find("x", b"/v1/files/x", [], accounts, setup)) is accounts[0]
    assert len(transport.asked) == ACCOUNTS_ASKED_MAX
    setup = setup_of(
        deployment("a", api_key="sk-ant-broken"), deployment("b", api_key="sk-ant-here")
    )
    accounts = usable_accounts(setup, key(), None, None)
    transport = Knows(b"sk-ant-here")
    found = asyncio.run(Locator(transport).find("x", b"/v1/files/x", [], accounts, setup))
    assert found.credential.value == b"sk-ant-here"


def test_only_so_many_places_are_remembered() -> None:
    # Given more ids than are remembered, then memory is bounded and the oldest is asked for again.
    setup, accounts = many(2)
    transport = Knows(b"sk-ant-m0", b"sk-ant-m1")
    locator = Locator(transport)

    async def all_of_them() -> None:
        for number in range(LOCATED_MAX + 1):
            await locator.find(f"f{number}", b"/v1/files/f", [], accounts, setup)
        assert len(transport.asked) == LOCATED_MAX + 1
        await locator.find(f"f{LOCATED_MAX}", b"/v1/files/f", [], accounts, setup)
        assert len(transport.asked) == LOCATED_MAX + 1
        await locator.find("f0", b"/v1/files/f", [], accounts, setup)
        assert len(transport.asked) == LOCATED_MAX + 2

    asyncio.run(all_of_them())
