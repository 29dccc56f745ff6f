"""The peers of the benchmark get the requests that they need; their CPU time counts whole."""

import argparse
import json
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from bench import claude_gateway, litellm
from bench.answers import Answer
from bench.load import Caller, Job, request_bytes
from bench.processes import used_us
from bench.report import summarize, table
from bench.services import printed_by
from tests.support.bench_rounds import measured


def job(caller: Caller, body_bytes: int = 1_000) -> Job:
    return Job(
        port=1,
        caller=caller,
        connections=1,
        body_bytes=body_bytes,
        answer=Answer(events=7, pace_ms=5),
        seconds=1,
        requests_max=1,
        ids_path="none",
    )


@pytest.mark.parametrize("body_bytes", [1_000, 100_000])
def test_request_has_the_length_model_and_headers_that_its_target_needs(body_bytes: int) -> None:
    # given a target with a bearer token, a model of its own and a list of headers it knows
    caller = Caller(
        kind="auth_token",
        headers={"authorization": "Bearer signed-in"},
        model="claude-sonnet-4-20250514",
        answer_header="x-stainless-bench-answer",
    )
    # when a request for it is made
    head, _, body = request_bytes(job(caller, body_bytes)).partition(b"\r\n\r\n")
    # then all of that is in it, and its body has the length of every other target's
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/messages?beta=true HTTP/1.1"
    assert "Authorization: Bearer signed-in" in lines
    assert "x-stainless-bench-answer: 7:5" in lines
    assert not [line for line in lines if "litellm" in line or "x-bench-answer" in line]
    assert json.loads(body)["model"] == "claude-sonnet-4-20250514"
    assert len(body) == body_bytes
    assert f"Content-Length: {body_bytes}" in lines


def test_gateway_under_test_gets_the_request_of_a_subscriber() -> None:
    # given nothing but a virtual key
    caller = Caller(headers={"x-litellm-api-key": "Bearer sk-of-the-run"})
    # then the request has it beside the subscription's token
    head = request_bytes(job(caller)).partition(b"\r\n\r\n")[0].decode()
    assert "x-litellm-api-key: Bearer sk-of-the-run" in head
    assert "Authorization: Bearer sk-ant-oat01-" in head
    assert "x-bench-answer: 7:5" in head


def test_litellm_is_configured_for_the_model_that_is_asked_for_and_without_a_database() -> None:
    # given its configuration, when it is read
    config = yaml.safe_load(litellm.config_text(18_080))
    # then it has the model's name, the benchmark's upstream, a key of its own, and no database
    (model,) = config["model_list"]
    assert model["model_name"] == Caller().model
    assert model["litellm_params"]["api_base"] == "http://127.0.0.1:18080"
    assert model["litellm_params"]["api_key"]
    assert "database_url" not in config["general_settings"]
    assert config["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"


def test_litellm_is_asked_in_the_way_that_costs_it_least_and_as_the_gateway_is() -> None:
    # given its two callers, when their requests are made
    heads = {
        name: request_bytes(job(caller)).partition(b"\r\n\r\n")[0].decode()
        for name, caller in litellm.callers().items()
    }
    # then the one sends its key alone, the other beside the subscription's token
    cheapest, subscriber = heads[litellm.LITELLM], heads[litellm.LITELLM_OAUTH]
    assert f"Authorization: Bearer {litellm.MASTER_KEY}" in cheapest
    assert "x-litellm-api-key" not in cheapest
    assert f"x-litellm-api-key: Bearer {litellm.MASTER_KEY}" in subscriber
    assert "Authorization: Bearer sk-ant-oat01-" in subscriber


def test_claude_gateway_is_configured_to_meter() -> None:
    # given its configuration, when it is read
    text = claude_gateway.config_text(18_081, 18_080, "http://127.0.0.1:1", "postgres://x@h:2/d")
    config = yaml.safe_load(text)
    # then spend limits are on (without `admin` it does not meter), and each part is where it runs
    assert config["admin"]["write_keys"][0]["key"] == claude_gateway.WRITE_KEY
    assert config["listen"]["public_url"] == "http://127.0.0.1:18081"
    assert config["upstreams"][0]["base_url"] == "http://127.0.0.1:18080"
    assert config["store"]["postgres_url"] == "postgres://x@h:2/d"
    assert config["oidc"]["issuer"] == "http://127.0.0.1:1"


def test_time_of_threads_that_begin_counts_and_of_those_that_end_is_not_subtracted() -> None:
    # given a thread that goes on, one that ends and one that begins between two moments
    before = {1: (5_000, 1_000), 2: (900_000, 900_000)}
    after = {1: (8_000, 2_000), 3: (4_000, 500)}
    # then the first counts with its difference and the last whole
    assert used_us(before, after) == (7.0, 1.5)


def test_missing_peer_is_told_by_its_path(tmp_path: Path) -> None:
    # given a folder without LiteLLM, when it is to be run, then the error names what is not there
    with (
        pytest.raises(RuntimeError, match=r"nowhere/bin/python does not run"),
        litellm.litellm(tmp_path / "peer", 1, None, tmp_path / "nowhere"),
    ):
        pass
    with pytest.raises(RuntimeError, match="does not run"):
        printed_by([tmp_path / "claude"], {})


def test_installation_that_would_flatter_us_is_refused(tmp_path: Path) -> None:
    # given an environment without LiteLLM or what makes it faster (this one), when it is to be run
    # then the error says what is missing
    with (
        pytest.raises(RuntimeError, match="No package metadata was found for litellm"),
        litellm.litellm(tmp_path / "peer", 1, None, Path(sys.prefix)),
    ):
        pass


def test_table_has_a_column_for_the_database_only_where_a_peer_has_one() -> None:
    # given a round of the gateway and of a peer with PostgreSQL, twenty times dearer
    ours = measured("whole-1k-c1", "tallygate", 100, others_us={"writer": 7})
    peer = msgspec.structs.replace(
        ours, target="claude-gateway", cpu_us=2_000, others_us={"postgres": 1_234}
    )
    # when both are tabled, then the ratio to ours and the database's share are there
    rows = summarize([ours, peer])
    assert rows[1]["cpu_ratio_tallygate"] == 20.0
    titles, _, _, line = (
        [field.strip() for field in each.split("|")] for each in table(rows).splitlines()
    )
    assert line[titles.index("× ours")] == "20.0"
    assert line[titles.index("postgres")] == "1234"
    # and without the peer, no such column
    assert "postgres" not in table(summarize([ours]))


def test_options_take_peers_and_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # given the command line with and without peers, when it is read
    from bench.proxy import _options

    def read(*arguments: str) -> argparse.Namespace:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        return _options()

    # then they are paths, or nothing
    assert read().litellm is None
    assert read().claude_gateway is None
    both = read("--litellm", "/peers/litellm", "--claude-gateway", "/peers/claude")
    assert both.litellm == Path("/peers/litellm")
    assert both.claude_gateway == Path("/peers/claude")
    # and TLS to the upstream, which peers are not set up for, is refused beside them
    with pytest.raises(SystemExit):
        read("--tls", "--litellm", "/peers/litellm")
