"""One configuration for a request, from beginning to end, whatever is exchanged meanwhile."""

import asyncio
import json
from typing import Any

import pytest

from schemas.config import Deployment, GatewayConfig, RouterSettings, Settings
from schemas.errors import BodyTooLarge, NotFound, Unauthenticated
from schemas.keys import hash_key, new_key
from schemas.registry import KeyRecord, ModelRecord
from services.proxy.admission import Admission, Admitted
from services.proxy.budgets import SpentBudgets
from services.proxy.guarding import Guarding
from services.proxy.health import Health, Trouble
from services.proxy.keeper import SetupKeeper
from services.proxy.marks import MarkBook
from services.proxy.pool import PoolSettings, UpstreamPool
from services.proxy.rates import Rates
from services.proxy.reservations import Reservations
from services.proxy.seats import SpentSeats
from services.runtime.registry import RegistrySnapshot

KEY = new_key()
MASTER = "sk-master-of-before-0123456789"
BODY = json.dumps({"model": "m", "max_tokens": 1, "messages": []}).encode()


def config(api_base: str, *, timeout_s: float, **settings: Any) -> GatewayConfig:
    deployment = Deployment(
        deployment_id="m/0",
        model_name="m",
        model="upstream-m",
        api_key="sk-ant-api03-x",
        api_base=api_base,
        timeout_s=timeout_s,
    )
    return GatewayConfig(path="", deployments=(deployment,), settings=Settings(**settings))


OLD = config("https://old.example", timeout_s=1, idle_timeout_s=11)
NEW = config("https://new.example", timeout_s=2, idle_timeout_s=22, request_bytes_max=1024)


class Worker:
    """The parts of a proxy that a configuration decides about."""

    def __init__(self) -> None:
        self.registry = RegistrySnapshot()
        self.registry.put(KeyRecord(key_id="key_1", key_hash=hash_key(KEY), key_name="sk-...x"))
        self.registry.loaded = True
        self.pool = UpstreamPool(PoolSettings.from_settings(OLD.settings))
        self.health = Health(lambda: 0.0)
        self.keeper = SetupKeeper(
            OLD,
            MASTER,
            registry=self.registry,
            pool=self.pool,
            health=self.health,
            environment={"X_API_KEY": "sk-ant-api03-of-x"},
        )
        self.admission = Admission(
            guarding=Guarding([].append),
            current=self.keeper,
            health=self.health,
            registry=self.registry,
            budgets=SpentBudgets(),
            check_room=lambda: None,
            seats=SpentSeats(lambda: 0),
            rates=Rates(self.registry, lambda: 0.0),
            reservations=Reservations(MarkBook()),
        )

    async def admit(self, *, during: Any = None, body: bytes = BODY, **headers: str) -> Admitted:
        """Admit a request; `during` is called while its body is still coming."""
        draft = self.admission.draft("tg_1", 1, "messages")

        async def receive() -> dict[str, Any]:
            if during is not None:
                during()
            return {"type": "http.request", "body": body, "more_body": False}

        given = {"x-litellm-api-key": KEY, **headers}
        raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in given.items()]
        return await self.admission.admit(b"/v1/messages", raw, receive, draft)


def test_request_keeps_the_configuration_it_began_with() -> None:
    # Given a request whose body is still coming, when the configuration is exchanged, then the
    # request is admitted by the old one alone, and the next one by the new one alone.
    async def run() -> None:
        worker = Worker()
        first = await worker.admit(
            during=lambda: worker.keeper.take(NEW, MASTER), body=BODY + b" " * 2000
        )
        assert first.setup.settings == OLD.settings
        assert first.upstream.origin.host == "old.example"
        assert (first.upstream.head_timeout_s, first.upstream.idle_timeout_s) == (1, 11)
        second = await worker.admit()
        assert second.setup.settings == NEW.settings
        assert second.upstream.origin.host == "new.example"
        assert (second.upstream.head_timeout_s, second.upstream.idle_timeout_s) == (2, 22)
        with pytest.raises(BodyTooLarge):
            await worker.admit(body=BODY + b" " * 2000)

    asyncio.run(run())


def test_master_key_of_before_is_no_credential_of_a_client() -> None:
    # Given a master key that was replaced, twice, when a client sends one of the old ones as its
    # own credential, then it goes nowhere.
    async def run() -> None:
        worker = Worker()
        forwarding = GatewayConfig(
            path="",
            deployments=(
                Deployment(
                    deployment_id="m/0", model_name="m", model="m", forward_client_auth=True
                ),
            ),
        )
        worker.keeper.take(forwarding, "second-master-key")
        worker.keeper.take(forwarding, "third-master-key")
        for secret in (MASTER, "second-master-key", "third-master-key"):
            with pytest.raises(Unauthenticated):
                await worker.admit(x_api_key=secret)
        admitted = await worker.admit(x_api_key="sk-ant-api03-own")
        assert (b"x-api-key", b"sk-ant-api03-own") in admitted.upstream.headers

    asyncio.run(run())


def test_models_of_the_registry_are_taken_when_they_come_and_kept_over_a_reload() -> None:
    # Given models that come and go, when the registry has made progress, then the next request has
    # them; a reload of the file keeps them; nothing is made anew where no model changed.
    async def run() -> None:
        worker = Worker()
        body = json.dumps({"model": "r", "max_tokens": 1, "messages": []}).encode()
        params = {"model": "anthropic/claude-x", "api_key": "os.environ/X_API_KEY"}
        worker.registry.put_model(ModelRecord(model_id="r1", model_name="r", litellm_params=params))
        with pytest.raises(NotFound):
            await worker.admit(body=body)
        worker.keeper.progressed()
        made = worker.keeper.setup
        for _ in range(2):
            admitted = await worker.admit(body=body)
            assert admitted.facts.deployment == "r1"
            assert (b"x-api-key", b"sk-ant-api03-of-x") in admitted.upstream.headers
            worker.keeper.progressed()
            assert worker.keeper.setup is made
            worker.keeper.take(NEW, MASTER)
            made = worker.keeper.setup
        gone = ModelRecord(model_id="r1", model_name="r", litellm_params=params, deleted=True)
        worker.registry.put_model(gone)
        worker.keeper.progressed()
        with pytest.raises(NotFound):
            await worker.admit(body=body)

    asyncio.run(run())


def test_cool_down_outlives_a_reload_for_a_deployment_that_is_still_the_same() -> None:
    # Given two deployments that cool down, when a reload changes the time-out of one and the
    # address of the other, then the one still cools down, the other begins anew, and requests
    # under way count on for both.
    async def run() -> None:
        worker = Worker()
        health, rules = worker.health, RouterSettings(cooldown_s=60)

        def of(base: str, timeout_s: float) -> GatewayConfig:
            return GatewayConfig(
                path="",
                deployments=tuple(
                    Deployment(
                        deployment_id=f"m/{place}",
                        model_name="m",
                        model="m",
                        api_base=f"https://{host}.example",
                        timeout_s=timeout_s,
                    )
                    for place, host in enumerate(("same", base))
                ),
            )

        worker.keeper.take(of("broken", 1), MASTER)
        for name in ("m/0", "m/1"):
            health.began(name)
            health.failed(name, Trouble.LIMITED, rules)
            assert health.cooling_s(name) > 0

        worker.keeper.take(of("mended", 2), MASTER)

        assert health.cooling_s("m/0") > 0
        assert health.cooling_s("m/1") == 0
        assert (health.busy("m/0"), health.busy("m/1")) == (1, 1)
        health.ended("m/0")
        health.ended("m/1")
        await worker.pool.aclose()

    asyncio.run(run())
