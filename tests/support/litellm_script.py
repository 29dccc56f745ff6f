"""An admin script as people write it for LiteLLM: its routes, bodies, fields and statuses.

Nothing in it knows of tallygate. `python -m tests.support.litellm_script URL MASTER_KEY` runs it
against a gateway; the fields that it expects are those of LiteLLM 1.109's answers.
"""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

__all__ = ["run_script"]

KEY_FIELDS = """
    key_name key_alias spend max_budget soft_budget budget_duration budget_reset_at budget_limits
    model_max_budget models expires user_id team_id organization_id project_id agent_id budget_id
    max_parallel_requests tpm_limit rpm_limit model_rpm_limit model_tpm_limit metadata tags aliases
    config permissions guardrails blocked allowed_routes allowed_cache_controls auto_rotate
    rotation_interval object_permission litellm_budget_table created_at created_by updated_at
    updated_by
"""
OWNER_FIELDS = """
    spend max_budget soft_budget budget_duration budget_reset_at models tpm_limit rpm_limit
    max_parallel_requests metadata organization_id created_at updated_at object_permission blocked
"""
TEAM_FIELDS = f"{OWNER_FIELDS} team_id team_alias members_with_roles litellm_model_table"
USER_FIELDS = f"""
    {OWNER_FIELDS} user_id user_alias user_email user_role teams model_spend model_max_budget
    organization_memberships sso_user_id
"""
LOG_FIELDS = """
    request_id call_type api_key spend total_tokens prompt_tokens completion_tokens startTime
    endTime completionStartTime request_duration_ms model model_id model_group custom_llm_provider
    api_base user team_id organization_id end_user agent_id session_id requester_ip_address
    request_tags cache_hit cache_key status metadata messages response proxy_server_request
"""
METRICS = """
    spend prompt_tokens completion_tokens cache_read_input_tokens cache_creation_input_tokens
    total_tokens successful_requests failed_requests api_requests
"""
BREAKDOWN = "models model_groups api_keys providers mcp_servers entities endpoints"
ERROR_FIELDS = "message type param code"


class _Gateway:
    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"})

    def post(self, path: str, body: dict[str, Any], status: int = 200) -> Any:
        return _json(self._client.post(path, json=body), status)

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        return _json(self._client.get(path, params=params), status)

    def close(self) -> None:
        self._client.close()


def _json(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, f"{response.request.url}: {response.text}"
    answer = response.json()
    if status >= 400:
        _has(answer["error"], ERROR_FIELDS)
        assert answer["error"]["code"] == str(status)
    return answer


def _has(row: dict[str, Any], fields: str) -> None:
    missing = set(fields.split()) - set(row)
    assert not missing, f"these fields are missing: {sorted(missing)}"


def _keys(gateway: _Gateway) -> str:
    """Make, show, change, block, replace and list keys; return the token of one that stays."""
    made = gateway.post(
        "/key/generate",
        {
            "key_alias": "prod-app1",
            "models": ["anthropic-claude"],
            "duration": "20m",
            "max_budget": 25.5,
            "soft_budget": 20,
            "budget_duration": "30d",
            "budget_limits": [{"budget_duration": "1d", "max_budget": 5}],
            "model_max_budget": {"anthropic-claude": {"budget_limit": 1, "time_period": "1d"}},
            "metadata": {"user": "ishaan@berri.ai"},
            "tags": ["team-web"],
            "team_id": "core-infra",
            "user_id": "app-1",
            "tpm_limit": 20_000,
            "rpm_limit": 40,
            "max_parallel_requests": 4,
            "aliases": {},
            "config": {},
            "permissions": {},
            "spend": 0,
            "key_type": "default",
            "send_invite_email": False,
        },
    )
    _has(made, f"{KEY_FIELDS} key token token_id")
    assert made["key"].startswith("sk-")
    assert made["key_name"] == f"sk-...{made['key'][-4:]}"
    expires = datetime.fromisoformat(made["expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(minutes=20)) < timedelta(minutes=5)
    for name in (made["key"], made["token"]):
        shown = gateway.get("/key/info", key=name)
        assert shown["key"] == name
        _has(shown["info"], f"{KEY_FIELDS} status total_spend last_active budget_limits_usage")
        assert (shown["info"]["max_budget"], shown["info"]["status"]) == (25.5, "active")
    own = _Gateway(str(gateway._client.base_url), made["key"])
    assert own.get("/key/info")["info"]["key_alias"] == "prod-app1"
    own.close()

    updated = gateway.post(
        "/key/update", {"key": made["key"], "max_budget": 100, "metadata": {"env": "prod"}}
    )
    _has(updated, f"{KEY_FIELDS} key")
    assert (updated["max_budget"], updated["rpm_limit"]) == (100, 40)
    assert gateway.post("/key/block", {"key": made["key"]})["blocked"] is True
    assert gateway.get("/key/info", key=made["key"])["info"]["status"] == "revoked"
    assert gateway.post("/key/unblock", {"key": made["key"]})["blocked"] is False

    renewed = gateway.post(
        f"/key/{made['token']}/regenerate",
        {"grace_period": "24h", "max_budget": 150, "metadata": {"team": "core-infra"}},
    )
    assert renewed["key"] != made["key"]
    assert (renewed["key_alias"], renewed["max_budget"]) == ("prod-app1", 150)
    assert renewed["metadata"] == {"team": "core-infra"}
    assert renewed["rpm_limit"] == 40

    page = gateway.get(
        "/key/list",
        page=1,
        size=10,
        user_id="app-1",
        return_full_object="true",
        sort_by="created_at",
    )
    _has(page, "keys total_count current_page total_pages")
    assert [key["token"] for key in page["keys"]] == [renewed["token"]]
    _has(page["keys"][0], f"{KEY_FIELDS} token")

    many = gateway.post(
        "/key/bulk_update",
        {"keys": [{"key": renewed["token"], "tags": ["web"]}, {"key": "sk-nobody-has-this-one"}]},
    )
    _has(many, "total_requested successful_updates failed_updates")
    assert [len(many[f"{name}_updates"]) for name in ("successful", "failed")] == [1, 1]
    _has(many["failed_updates"][0], "key failed_reason")
    gateway.post(f"/key/{renewed['token']}/reset_spend", {"reset_to": 0})

    other = gateway.post("/key/generate", {})
    deleted = gateway.post("/key/delete", {"keys": [other["key"]]})
    assert deleted["deleted_keys"] == [other["key"]]
    assert gateway.get("/key/info", key=other["key"])["info"]["status"] == "deleted"
    gateway.get("/key/info", 404, key="sk-nobody-has-this-one")
    gateway.post("/key/update", {"key": "sk-nobody-has-this-one", "max_budget": 1}, 404)
    gateway.post("/key/generate", {"max_budget": "much"}, 400)
    token: str = renewed["token"]
    return token


def _teams(gateway: _Gateway) -> None:
    team = gateway.post(
        "/team/new",
        {
            "team_alias": "core-infra",
            "team_id": "core-infra",
            "models": ["anthropic-claude"],
            "max_budget": 500.0,
            "budget_duration": "30d",
            "tpm_limit": 100_000,
            "rpm_limit": 1000,
            "metadata": {"cost_centre": "4711"},
            "members_with_roles": [{"role": "admin", "user_id": "lead"}],
        },
    )
    _has(team, TEAM_FIELDS)
    added = gateway.post(
        "/team/member_add",
        {"team_id": "core-infra", "member": {"role": "user", "user_id": "krrish"}},
    )
    _has(added, f"{TEAM_FIELDS} updated_users updated_team_memberships")
    roles = {each["user_id"]: each["role"] for each in added["members_with_roles"]}
    assert roles == {"lead": "admin", "krrish": "user"}
    gateway.post(
        "/team/member_update", {"team_id": "core-infra", "user_id": "krrish", "role": "admin"}
    )
    shown = gateway.get("/team/info", team_id="core-infra")
    _has(shown, "team_id team_info keys team_memberships")
    _has(shown["team_info"], TEAM_FIELDS)
    assert [key["key_alias"] for key in shown["keys"]] == ["prod-app1"]
    assert {each["role"] for each in shown["team_info"]["members_with_roles"]} == {"admin"}
    gateway.post("/team/member_delete", {"team_id": "core-infra", "user_id": "krrish"})
    updated = gateway.post("/team/update", {"team_id": "core-infra", "max_budget": 600})
    assert (updated["team_id"], updated["data"]["max_budget"]) == ("core-infra", 600)
    assert gateway.post("/team/block", {"team_id": "core-infra"})["blocked"] is True
    assert gateway.post("/team/unblock", {"team_id": "core-infra"})["blocked"] is False
    assert "core-infra" in {each["team_id"] for each in gateway.get("/team/list")}
    gateway.get("/team/info", 404, team_id="no-such-team")


def _users(gateway: _Gateway) -> None:
    user = gateway.post(
        "/user/new",
        {
            "user_id": "app-1",
            "user_email": "app-1@berri.ai",
            "user_role": "internal_user",
            "user_alias": "App 1",
            "max_budget": 20,
            "budget_duration": "1d",
            "teams": ["core-infra"],
            "auto_create_key": True,
            "key_alias": "app-1-own",
        },
    )
    _has(user, f"{USER_FIELDS} key token expires key_alias")
    assert user["key"].startswith("sk-")
    shown = gateway.get("/user/info", user_id="app-1")
    _has(shown, "user_id user_info keys teams")
    _has(shown["user_info"], USER_FIELDS)
    assert {key["key_alias"] for key in shown["keys"]} == {"prod-app1", "app-1-own"}
    assert [team["team_alias"] for team in shown["teams"]] == ["core-infra"]
    updated = gateway.post("/user/update", {"user_id": "app-1", "max_budget": 30})
    assert (updated["user_id"], updated["data"]["max_budget"]) == ("app-1", 30)
    page = gateway.get("/user/list", page=1, page_size=25, user_email="app-1@")
    _has(page, "users total page page_size total_pages")
    (row,) = page["users"]
    _has(row, f"{USER_FIELDS} key_count")
    assert row["key_count"] == 2
    gateway.get("/user/info", 404, user_id="no-such-user")


def _models(gateway: _Gateway) -> None:
    made = gateway.post(
        "/model/new",
        {
            "model_name": "claude-fast",
            "litellm_params": {"model": "anthropic/claude-haiku-4-5", "rpm": 100},
            "model_info": {"id": "claude-fast-of-script", "mode": "chat"},
        },
    )
    _has(made, "model_id model_name litellm_params model_info created_by updated_by")
    (entry,) = gateway.get("/model/info", litellm_model_id="claude-fast-of-script")["data"]
    _has(entry, "model_name litellm_params model_info")
    _has(entry["model_info"], "id db_model input_cost_per_token output_cost_per_token mode")
    assert {"claude-fast"} <= {each["id"] for each in gateway.get("/v1/models")["data"]}
    groups = gateway.get("/model_group/info")["data"]
    assert {"claude-fast"} <= {each["model_group"] for each in groups}
    gateway.post("/model/delete", {"id": "claude-fast-of-script"})


def _spend(gateway: _Gateway) -> None:
    today = datetime.now(UTC).date()
    period = {
        "start_date": (today - timedelta(days=2)).isoformat(),
        "end_date": (today + timedelta(days=1)).isoformat(),
    }
    rows = gateway.get("/spend/logs")
    assert rows
    _has(rows[0], LOG_FIELDS)
    one = gateway.get("/spend/logs", request_id=rows[0]["request_id"])
    assert [row["request_id"] for row in one] == [rows[0]["request_id"]]
    of_key = gateway.get("/spend/logs", api_key=rows[0]["api_key"])
    assert {row["api_key"] for row in of_key} == {rows[0]["api_key"]}
    for day in gateway.get("/spend/logs", **period):
        _has(day, "startTime spend users models")
    page = gateway.get("/spend/logs/v2", page=1, page_size=5, **period)
    _has(page, "data total page page_size total_pages")
    total = sum(row["spend"] for row in rows)
    report = gateway.get("/global/spend/report", group_by="team", **period)
    _has(report[0], "group_by_day teams")
    _has(report[0]["teams"][0], "team_name total_spend metadata")
    _has(report[0]["teams"][0]["metadata"][0], "model spend total_tokens api_key")
    activity = gateway.get("/user/daily/activity", page=1, page_size=100, **period)
    _has(activity["results"][0], "date metrics breakdown")
    _has(activity["results"][0]["metrics"], METRICS)
    _has(activity["results"][0]["breakdown"], BREAKDOWN)
    _has(activity["metadata"], "total_spend total_tokens page total_pages has_more")
    sums = (
        gateway.get("/global/spend")["spend"],
        activity["metadata"]["total_spend"],
        sum(row["spend"] for row in gateway.get("/spend/keys")),
        sum(row["total_spend"] for row in gateway.get("/global/spend/keys")),
    )
    assert all(abs(each - total) < 1e-9 for each in sums), (sums, total)
    cost = gateway.post(
        "/spend/calculate",
        {
            "model": "anthropic-claude",
            "messages": [{"role": "user", "content": "Hey, how's it going?"}],
        },
    )
    assert cost["cost"] > 0


def run_script(url: str, master_key: str) -> None:
    """Run it all against a gateway whose ledger has some requests. Raises AssertionError."""
    gateway = _Gateway(url, master_key)
    assert gateway.get("/health/liveliness") == "I'm alive!"
    assert gateway.get("/health/readiness")["status"] == "healthy"
    token = _keys(gateway)
    _teams(gateway)
    _users(gateway)
    _models(gateway)
    _spend(gateway)
    audit = gateway.get("/audit", page=1, page_size=10, object_name="prod-app1")
    _has(audit, "audit_logs total page page_size total_pages")
    gateway.post("/key/delete", {"keys": [token]})
    gateway.post("/user/delete", {"user_ids": ["app-1"]})
    gateway.post("/team/delete", {"team_ids": ["core-infra"]})
    stranger = _Gateway(url, "sk-not-the-master-key-0123456789")
    stranger.get("/key/info", 401)
    stranger.close()
    gateway.close()


if __name__ == "__main__":
    run_script(*sys.argv[1:3])
