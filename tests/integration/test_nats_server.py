"""The embedded nats-server, real: who may say what, and that everything that must work works."""

import asyncio
import json
import socket
import stat
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import nats
import pytest
from nats.aio.client import Client

from schemas.streams import BUDGET, CONFIG_STATE_SUBJECT, QUERY_SUBJECT, REGISTRY, STREAMS, USAGE
from services.runtime.bus import Bus, StreamBatch
from services.runtime.folder import DataFolder
from services.runtime.nats_permissions import NATS_USERS, NatsUser
from services.runtime.nats_server import EmbeddedNats

USER_NAMES = [user.name for user in NATS_USERS]
ADMINISTRATION = (
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.CREATE.OTHER",
    *(
        subject.format(stream.name)
        for stream in STREAMS
        for subject in (
            "$JS.API.STREAM.UPDATE.{}",
            "$JS.API.STREAM.DELETE.{}",
            "$JS.API.STREAM.PURGE.{}",
            "$JS.API.STREAM.MSG.DELETE.{}",
            "$JS.API.STREAM.MSG.GET.{}",
            "$JS.API.STREAM.SNAPSHOT.{}",
            "$JS.API.STREAM.RESTORE.{}",
            "$JS.API.DIRECT.GET.{}",
            "$JS.API.CONSUMER.DURABLE.CREATE.{}.x",
            "$JS.API.CONSUMER.LIST.{}",
        )
    ),
    "$JS.ACK.USAGE.x.1.1.1.1.1",
    "$SYS.REQ.SERVER.PING",
    "usage",
    "usage.0.deeper",
    "other",
)


@contextmanager
def embedded(tmp_path: Path) -> Iterator[EmbeddedNats]:
    server = EmbeddedNats(DataFolder(tmp_path / "data"))
    process = subprocess.Popen(
        server.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None

    async def until_it_answers() -> None:
        async with asyncio.timeout(20):
            while not await server.answers():
                assert process.poll() is None, process.stderr.read()
                await asyncio.sleep(0.02)

    try:
        asyncio.run(until_it_answers())
        yield server
    finally:
        process.terminate()
        process.communicate(timeout=20)


def example(subject: str) -> str:
    """A subject that a pattern allows."""
    return subject.replace(">", "one.two").replace("*", "one")


def publishing(user: NatsUser) -> set[str]:
    return {example(subject) for subject in user.publish}


def foreign(user: NatsUser) -> list[str]:
    everything = {*ADMINISTRATION, QUERY_SUBJECT, "_INBOX.admin.x", "_INBOX.proxy.x"}
    for other in NATS_USERS:
        everything |= publishing(other)
    return sorted(everything - publishing(user))


async def connect(url: str, name: str, violations: list[str]) -> Client:
    async def on_error(error: Exception) -> None:
        violations.append(str(error).lower())

    return await nats.connect(
        url, error_cb=on_error, allow_reconnect=False, inbox_prefix=f"_INBOX.{name}"
    )


@pytest.mark.parametrize("user", NATS_USERS, ids=USER_NAMES)
def test_every_foreign_subject_is_a_permission_violation(tmp_path: Path, user: NatsUser) -> None:
    # Given the credential of one service, when it publishes or listens where another one does,
    # or asks for what nobody may, then each attempt is a permission violation.

    async def attempt(url: str) -> None:
        violations: list[str] = []
        client = await connect(url, user.name, violations)
        expected = set()
        for subject in foreign(user):
            await client.publish(subject, b"{}")
            expected.add(f'permissions violation for publish to "{subject.lower()}"')
        inboxes = [f"_INBOX.{name}.>" for name in USER_NAMES if name != user.name]
        listening = {"_INBOX.>", ">", "usage.>", "registry.>", "budget.>", "$JS.>", "$SYS.>"}
        listening |= {*inboxes, QUERY_SUBJECT, "rpc.>"} - set(user.subscriptions)
        for subject in listening:
            await client.subscribe(subject)
            expected.add(f'permissions violation for subscription to "{subject.lower()}"')
        # What it may do itself is in between, and must not be refused.
        for subject in publishing(user):
            await client.publish(subject, b"{}")
        await client.flush()
        deadline = asyncio.get_running_loop().time() + 10
        while len(violations) < len(expected):
            assert asyncio.get_running_loop().time() < deadline, violations
            await asyncio.sleep(0.01)
        assert {text.removeprefix("nats: ") for text in violations} == expected
        await client.close()

    with embedded(tmp_path) as server:
        asyncio.run(attempt(server.url(user.name)))


def _named(name: str) -> Callable[[bytes], Awaitable[bytes]]:
    async def answer(_: bytes) -> bytes:
        return name.encode()

    return answer


def test_every_service_can_do_its_work_through_the_bus(tmp_path: Path) -> None:
    # Given the four users, when each service does over its Bus what it is there for, then
    # everything arrives.

    async def work(server: EmbeddedNats) -> None:
        buses = {name: await Bus.connect(server.url(name), name) for name in USER_NAMES}
        proxy, writer = buses["proxy"], buses["ledger-writer"]
        reader, admin = buses["ledger-reader"], buses["admin"]
        # The writer also gives a store of an older version the subjects that it lacks.
        older = msgspec.structs.replace(REGISTRY, subjects=("registry.key.*",))
        await writer.ensure_streams((older,))
        await writer.ensure_streams()
        await writer.ensure_streams()
        assert (await reader.stream_state(USAGE.name)).messages == 0

        assert await proxy.publish("usage.0", b"usage", message_id="a") == 1
        assert await admin.publish("registry.key.k", b"1", expected_last_subject_sequence=0) == 1
        assert await writer.publish("budget.key.k", b"budget") == 1

        async def first(bus: Bus, stream: str, *, last: bool = False) -> list[bytes]:
            batch: StreamBatch
            async for batch in bus.follow(stream, last_per_subject=last):
                if batch.messages:
                    return [message.payload for message in batch.messages]
            return []

        async with asyncio.timeout(20):
            for bus in (writer, reader):
                assert await first(bus, USAGE.name) == [b"usage"]
            for bus in (proxy, admin, writer, reader):
                assert await first(bus, REGISTRY.name) == [b"1"]
            for bus in (proxy, admin, writer, reader):
                assert await first(bus, BUDGET.name, last=True) == [b"budget"]

            async def answer(question: bytes) -> bytes:
                return question + b"!" * 2_000_000

            await reader.serve(QUERY_SUBJECT, answer)
            await reader.flush()
            for name, bus in buses.items():
                await bus.serve(CONFIG_STATE_SUBJECT, _named(name))
                await bus.flush()
            told = await admin.ask_all(
                CONFIG_STATE_SUBJECT,
                b"{}",
                timeout_s=10,
                replies_max=10,
                is_enough=lambda replies: len(replies) == len(buses),
            )
            assert sorted(told) == sorted(name.encode() for name in buses)
            reply = await admin.request(QUERY_SUBJECT, b"how much")
            assert reply == b"how much" + b"!" * 2_000_000
        for bus in buses.values():
            await bus.close()

    with embedded(tmp_path) as server:
        asyncio.run(work(server))


def test_a_proxy_cannot_make_an_old_state_of_a_key_its_newest(tmp_path: Path) -> None:
    # Given a key that was blocked, each state published with the sequence of the one before,
    # when a proxy reads the stream and names the key's own subject, or another key's, as the one
    # where it wants to be sent the old state, then nothing is stored.
    async def attempt(server: EmbeddedNats) -> None:
        writer = await Bus.connect(server.url("ledger-writer"), "ledger-writer")
        admin = await Bus.connect(server.url("admin"), "admin")
        await writer.ensure_streams()
        first = await admin.publish("registry.key.k", b"old", expected_last_subject_sequence=0)
        await admin.publish("registry.key.k", b"new", expected_last_subject_sequence=first)
        violations: list[str] = []
        proxy = await connect(server.url("proxy"), "proxy", violations)
        consumer = {
            "stream_name": REGISTRY.name,
            "config": {"name": "c", "deliver_policy": "all", "ack_policy": "none"},
        }
        await proxy.request("$JS.API.CONSUMER.CREATE.REGISTRY.c", json.dumps(consumer).encode())
        for subject in ("registry.key.k", "registry.key.other"):
            await proxy.publish("$JS.API.CONSUMER.MSG.NEXT.REGISTRY.c", b"1", reply=subject)
            await proxy.flush()
        info = await proxy.request(
            "$JS.API.CONSUMER.CREATE.REGISTRY.c", json.dumps(consumer).encode()
        )
        assert json.loads(info.data)["delivered"]["consumer_seq"] == 2
        assert (await writer.stream_state(REGISTRY.name)).last_sequence == 2
        for connection in (writer, admin, proxy):
            await connection.close()

    with embedded(tmp_path) as server:
        asyncio.run(attempt(server))


def test_without_a_password_nobody_gets_in(tmp_path: Path) -> None:
    # Given the running server, when somebody connects without or with a wrong password, then the
    # connection is refused.

    def attempt(server: EmbeddedNats, options: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(b"CONNECT " + options + b"\r\nPING\r\n")
            received = b""
            while part := connection.recv(4096):
                received += part
            return received

    with embedded(tmp_path) as server:
        for options in (b"{}", b'{"user":"admin","pass":"wrong"}', b'{"user":"x","pass":"x"}'):
            answer = attempt(server, options)
            assert b"-ERR 'Authorization Violation'" in answer
            assert b"PONG" not in answer


def test_passwords_are_made_once_and_readable_by_the_owner_alone(tmp_path: Path) -> None:
    # Given a data folder, when the server is prepared twice, then the passwords are the same,
    # all different, and the files that hold them are 0600 in folders that are 0700.
    folder = DataFolder(tmp_path / "data")
    first, second = EmbeddedNats(folder), EmbeddedNats(folder)
    secret_file = folder.secrets / "nats.json"
    passwords = json.loads(secret_file.read_text())
    assert sorted(passwords) == sorted(USER_NAMES)
    assert len(set(passwords.values())) == len(USER_NAMES)
    for name in USER_NAMES:
        assert first.url(name).rsplit("@")[0] == second.url(name).rsplit("@")[0]
    for path in (secret_file, second.config_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_server_listens_on_loopback_alone_and_outside_the_ephemeral_ports(
    tmp_path: Path,
) -> None:
    # Given the prepared configuration, then it names 127.0.0.1 and a port that no outgoing
    # connection can be given.
    server = EmbeddedNats(DataFolder(tmp_path / "data"))
    assert f'listen: "127.0.0.1:{server.port}"' in server.config_path.read_text()
    with socket.create_server(("127.0.0.1", server.port)):
        pass
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if ports.exists() and int(ports.read_text().split()[0]) > 20_001:
        assert server.port < int(ports.read_text().split()[0])
