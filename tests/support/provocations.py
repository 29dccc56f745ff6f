"""Ways to bring the real gateway to refuse, for each row of the table in docs/claude-code.md.

Each is a function that prepares a `Stage` and yields how the client is to ask. What it provokes is
real: keys that are blocked, budgets that were declared spent, a NATS that is down, deployments that
are silent, a network that stands still. The one fault of the gateway itself is planted.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec

from schemas.budgets import BudgetState
from schemas.registry import KeyRecord
from services.proxy.admission import HEADERS_MAX
from tests.support.mock import MockAnthropic, Scenario
from tests.support.nats import NatsServer, running_nats
from tests.support.proxy import (
    MASTER_KEY,
    ProxyProcess,
    gateway_config,
    make_streams,
    model_entry,
    publish_budget,
    running_proxy,
)
from tests.support.scripted import ScriptedServer
from tests.support.tap import Network, damaging, standing_still

__all__ = [
    "PROVOCATIONS",
    "SECRETS_OUT",
    "Asking",
    "Provocation",
    "Stage",
    "answers_under_way",
    "spend_all",
    "stage_config",
]

OAUTH, API_KEY, TOKEN = "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"
LOGIN = "/login"
SIGN_INS = {
    OAUTH: "with a subscription",
    LOGIN: "with a subscription",
    API_KEY: "with an API key",
    TOKEN: "with a token",
}
"""The ways to sign in, and how the table calls them where it tells them apart."""

SECRETS_OUT = "secrets out"
"""The stage's guardrail that masks secrets."""
BODY_BYTES_MAX = 150_000
_LONG_PROMPT = "x" * 110_000
_CONNECTIONS_MAX = 2
_OUTBOX_BYTES_MAX = 65_536
_FILLING_MAX = 300
_FULL_TIMEOUT_S = 10.0
_PLANTED_FAULT = """\
from services.proxy import admission


async def admit(*_: object) -> None:
    raise ZeroDivisionError("planted by a test")


admission.Admission.admit = admit
"""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """How the client asks. `key` None sends none; `proxy` None is the stage's own."""

    key: str | None
    model: str = "anthropic-claude"
    prompt: str = "say hi"
    headers: tuple[str, ...] = ()
    proxy: ProxyProcess | None = None
    network: Network = lambda: bytes


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What the provocations have to play with. `folder` is an empty one, of each its own."""

    proxy: ProxyProcess
    nats: NatsServer
    mock: MockAnthropic
    scripted: ScriptedServer
    folder: Path


Provoke = Callable[[Stage], Iterator[Asking]]


class Provocation(msgspec.Struct, frozen=True, kw_only=True):
    """A way to a refusal: the row of the table, how the client signs in, and what brings it about.

    `variable` is one of SIGN_INS, `says` a part of MSG. `retries` is what the client is left: fewer
    where each takes long.
    """

    row: str
    name: str
    variable: str
    retries: int
    says: str
    provoke: Callable[[Stage], AbstractContextManager[Asking]]


PROVOCATIONS: list[Provocation] = []


def _of(row: str, says: str, *variables: str, retries: int = 2) -> Callable[[Provoke], Provoke]:
    """Enter a function as a provocation of a row, for each way to sign in."""

    def enter(function: Provoke) -> Provoke:
        name = function.__name__.replace("_", " ")
        PROVOCATIONS.extend(
            Provocation(
                row=row,
                name=f"{name}, {variable}",
                variable=variable,
                retries=retries,
                says=says,
                provoke=contextmanager(function),
            )
            for variable in variables
        )
        return function

    return enter


def stage_config(
    mock: MockAnthropic, scripted: ScriptedServer, closed_port: int
) -> dict[str, object]:
    """Return the configuration of the stage's proxy."""
    key = "sk-ant-api03-of-the-company"
    config = gateway_config(
        model_entry(mock.url, api_key=key),
        model_entry(mock.url, name="claude-without-key"),
        model_entry("http://localhost:9", name="claude-elsewhere"),
        model_entry(f"http://127.0.0.1:{closed_port}", name="claude-nobody", api_key=key),
        model_entry(scripted.url, name="claude-silent", api_key=key, timeout=0.3),
        request_bytes_max=BODY_BYTES_MAX,
        client_body_timeout_s=1,
        connect_timeout_s=0.5,
        upstream_connections_max=_CONNECTIONS_MAX,
        budget_message="ask the platform team",
        rate_limit_wait_s_max=5,
    )
    names = {"name": "codename", "category": "projects", "words": ["Project Falcon"]}
    guardrails: dict[str, dict[str, object]] = {
        "no codenames": {"guardrail": "block_list", "lists": [names]},
        SECRETS_OUT: {"guardrail": "secrets", "action": "mask", "rules": ["github-pat"]},
    }
    return {
        **config,
        "guardrails": [
            {"guardrail_name": name, "litellm_params": {"mode": "pre_call", **params}}
            for name, params in guardrails.items()
        ],
    }


_NO_KEY = "no virtual key, an unknown or deleted one, the master key"


@_of(_NO_KEY, "No virtual key", OAUTH, API_KEY)
def no_key(_: Stage) -> Iterator[Asking]:
    yield Asking(key=None)


@_of(_NO_KEY, "not known", OAUTH, LOGIN, API_KEY, TOKEN)
def unknown_key(_: Stage) -> Iterator[Asking]:
    yield Asking(key="sk-nobody-has-this-key-0123456789")


@_of(_NO_KEY, "master key", API_KEY)
def master_key(_: Stage) -> Iterator[Asking]:
    yield Asking(key=MASTER_KEY)


@_of("a credential header that holds what no key holds, or is too long", "no key", OAUTH, API_KEY)
def garbled_key(_: Stage) -> Iterator[Asking]:
    yield Asking(key="sk-ké")


@_of("no credential for the deployment (MSG names the setting)", "litellm_params.api_key", TOKEN)
def no_credential(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(), model="claude-without-key")


@_of("no credential for the deployment (MSG names the setting)", "oauth_hosts", OAUTH, API_KEY)
def credential_that_may_not_go_there(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(), model="claude-elsewhere")


@_of("key blocked or expired", "bob is blocked", OAUTH, LOGIN, TOKEN)
def blocked(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(blocked=True, key_alias="bob"))


@_of("key blocked or expired", "expired on", API_KEY)
def expired(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(expires_at_us=1))


@_of("model not allowed for the key", "may not use the model", OAUTH)
def model_not_allowed(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(models=("claude-other",)))


@_of("blocked by a guardrail", "it found codename in messages[", OAUTH)
def what_may_not_leave_the_house(stage: Stage) -> Iterator[Asking]:
    key = stage.proxy.issue_key(guardrails=("no codenames",))
    yield Asking(key=key, prompt="what is project falcon?")


@_of("unknown model", "is not configured", OAUTH, API_KEY)
def unknown_model(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(), model="claude-nonsense")


@_of("body that stands still", "stood still", OAUTH, retries=1)
def network_that_stands_still(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(), network=standing_still(after_bytes=10_000))


@_of("body too large", f"larger than {BODY_BYTES_MAX} bytes", OAUTH, API_KEY)
def too_large(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(), prompt=_LONG_PROMPT)


@_of("budget spent", "ask the platform team", OAUTH, LOGIN, API_KEY, TOKEN)
def budget_spent(stage: Stage) -> Iterator[Asking]:
    key, record = stage.proxy.issue_record(key_alias="spender")
    spend_all(stage.proxy, key, record)
    yield Asking(key=key)


@_of("rate limit reached", "1 requests at a time. Try again in 1 s", OAUTH, API_KEY, retries=1)
def rate_limit_reached(stage: Stage) -> Iterator[Asking]:
    key = stage.proxy.issue_key(key_alias="hasty", max_parallel_requests=1)
    stage.mock.set_default(Scenario(fault="stall", fault_after_events=2))
    with answers_under_way(stage.proxy, key, 1):
        yield Asking(key=key)


@_of(
    "rate limit reached, room later than `rate_limit_wait_s_max`",
    "1 requests a minute. Try again in",
    OAUTH,
    API_KEY,
)
def rate_limit_that_lasts(stage: Stage) -> Iterator[Asking]:
    key = stage.proxy.issue_key(key_alias="hasty", rpm_limit=1)
    assert _ask(stage.proxy, key) == 200
    yield Asking(key=key)


@_of("headers too many or too long", f"more than {HEADERS_MAX} headers", OAUTH, API_KEY)
def too_many_headers(stage: Stage) -> Iterator[Asking]:
    many = tuple(f"x-team-{number}: blue" for number in range(HEADERS_MAX))
    yield Asking(key=stage.proxy.issue_key(), headers=many)


@_of("odd request: no JSON, `model` twice, a credential header twice", "valid JSON", OAUTH)
def damaged_body(stage: Stage) -> Iterator[Asking]:
    damage = damaging(b'{"model"', b'{model"}')
    yield Asking(key=stage.proxy.issue_key(), network=damage)


_503 = "outbox full, keys not read yet, all connections in use, the service of a guardrail away"


@_of(_503, "All connections", OAUTH, retries=1)
def all_connections_in_use(stage: Stage) -> Iterator[Asking]:
    key = stage.proxy.issue_key()
    stage.mock.set_default(Scenario(fault="stall", fault_after_events=2))
    with answers_under_way(stage.proxy, key, _CONNECTIONS_MAX):
        yield Asking(key=key)


@_of(_503, "not read its keys yet", OAUTH, retries=1)
def keys_not_read(stage: Stage) -> Iterator[Asking]:
    config = gateway_config(model_entry(stage.mock.url))
    # Nobody listens at this port of the machine.
    proxy = ProxyProcess(stage.folder, "nats://127.0.0.1:9", config)
    proxy.start(ready=False)
    try:
        yield Asking(key="sk-not-known-yet-0123456789", proxy=proxy)
    finally:
        proxy.kill()


@_of(_503, "cannot record requests", OAUTH, retries=1)
def outbox_full(stage: Stage) -> Iterator[Asking]:
    config = gateway_config(
        model_entry(stage.mock.url, api_key="sk-ant-api03-x"), outbox_bytes_max=_OUTBOX_BYTES_MAX
    )
    with running_nats(stage.folder) as nats, running_proxy(stage.folder, nats.url, config) as proxy:
        key = proxy.issue_key()
        nats.kill()
        statuses = (_ask(proxy, key) for _ in range(_FILLING_MAX))
        assert 503 in statuses, "the outbox does not fill"
        yield Asking(key=key, proxy=proxy)


_502 = "deployment not reachable, no proper answer, a redirect"


@_of(_502, "127.0.0.1", OAUTH, retries=1)
def nobody_listens(stage: Stage) -> Iterator[Asking]:
    yield Asking(key=stage.proxy.issue_key(), model="claude-nobody")


@_of(_502, "No answer from", API_KEY, retries=1)
def garbage(stage: Stage) -> Iterator[Asking]:
    stage.mock.set_default(Scenario(reply="garbage"))
    yield Asking(key=stage.proxy.issue_key())


@_of(_502, "redirect", TOKEN, retries=1)
def redirect(stage: Stage) -> Iterator[Asking]:
    stage.mock.set_default(Scenario(reply="redirect"))
    yield Asking(key=stage.proxy.issue_key())


@_of("deployment silent", "did not answer within", OAUTH, retries=1)
def silent(stage: Stage) -> Iterator[Asking]:
    stage.scripted.script(close="hold")
    yield Asking(key=stage.proxy.issue_key(), model="claude-silent")


@_of("fault of the gateway", "The gateway failed", OAUTH)
def planted_fault(stage: Stage) -> Iterator[Asking]:
    (stage.folder / "sitecustomize.py").write_text(_PLANTED_FAULT)
    config = gateway_config(model_entry(stage.mock.url))
    make_streams(stage.nats.url)
    proxy = ProxyProcess(stage.folder, stage.nats.url, config)
    proxy.environment["PYTHONPATH"] = str(stage.folder)
    proxy.start()
    try:
        yield Asking(key=proxy.issue_key(), proxy=proxy)
    finally:
        proxy.kill()


def spend_all(proxy: ProxyProcess, key: str, record: KeyRecord) -> None:
    """Declare the budget of a key spent, as the ledger does, and wait until the proxy knows."""
    resets_s = int(datetime.now(UTC).timestamp()) + 7 * 86_400
    state = BudgetState(
        scope="key",
        scope_id=record.key_id,
        name=record.key_alias or record.key_name,
        spend_usd=Decimal("10.02"),
        max_budget_usd=Decimal(10),
        budget_duration="30d",
        window_start_us=0,
        resets_at_us=resets_s * 1_000_000,
    )
    publish_budget(proxy.nats_url, state)
    _wait_for_status(proxy, key, 429)


@contextmanager
def answers_under_way(proxy: ProxyProcess, key: str, count: int) -> Iterator[None]:
    """Hold so many answers that have begun and do not go on."""
    body = b'{"model":"anthropic-claude","max_tokens":1,"stream":true,"messages":[]}'
    url, headers = f"{proxy.url}/v1/messages", {"x-litellm-api-key": key}
    with ExitStack() as streams:
        client = streams.enter_context(httpx.Client(trust_env=False, timeout=20))
        for _ in range(count):
            streams.enter_context(client.stream("POST", url, content=body, headers=headers))
        yield


def _ask(proxy: ProxyProcess, key: str) -> int:
    """Return the status of one small question."""
    return httpx.post(
        f"{proxy.url}/v1/messages",
        json={"model": "anthropic-claude", "max_tokens": 1, "messages": []},
        headers={"x-litellm-api-key": key},
        trust_env=False,
        timeout=20,
    ).status_code


def _wait_for_status(proxy: ProxyProcess, key: str, status: int) -> None:
    deadline = time.monotonic() + _FULL_TIMEOUT_S
    while _ask(proxy, key) != status:
        assert time.monotonic() < deadline, f"no {status}"
        time.sleep(0.02)
