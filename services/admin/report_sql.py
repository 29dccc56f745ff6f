"""The SQL of reports about spend, from the sums that the ledger keeps by day, and their rows.

Texts are constants, values are parameters. Columns have the ledger's own names: a report in CSV or
Arrow is this table as it is, one in JSON is LiteLLM's shape of it.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import groupby
from typing import Any

from schemas.rpc import QueryReply
from services.admin.bodies_spend import (
    CustomerReport,
    DayReportLine,
    GroupReport,
    KeySpendRow,
    ModelCost,
    ReportDay,
    TagSpend,
    TeamReport,
    UserSpendRow,
)
from services.admin.spend_sql import money

__all__ = [
    "HashOf",
    "customers_from",
    "groups_from",
    "keys_from",
    "report_by_customer",
    "report_by_group",
    "report_by_team",
    "spend_of_all_keys",
    "spend_of_all_users",
    "tags_from",
    "teams_from",
    "users_from",
]

HashOf = Callable[[str], str | None]
"""Tells the SHA-256 of the key with an id."""

_TOKENS = (
    "input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens"
    " + output_tokens"
)
_PROMPT = "input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens"
_SUMS = f"""sum(cost_usd) AS spend_usd,
           sum(requests)::BIGINT AS requests,
           sum({_TOKENS})::BIGINT AS total_tokens,
           sum(unpriced_requests)::BIGINT AS unpriced_requests"""
_SUMS_OR_ZERO = """coalesce(spent.spend_usd, 0) AS spend_usd,
       coalesce(spent.requests, 0) AS requests,
       coalesce(spent.total_tokens, 0) AS total_tokens,
       coalesce(spent.unpriced_requests, 0) AS unpriced_requests"""


def spend_of_all_keys(where: str) -> str:
    """Return the SQL for what each key spent: all that were not deleted, or that spent anything."""
    return f"""
WITH spent AS (SELECT key_id, {_SUMS} FROM spend_parts {where} GROUP BY key_id)
SELECT key_id, keys.key_name, keys.key_alias, keys.user_id, keys.team_id,
       {_SUMS_OR_ZERO},
       keys.deleted
FROM spent FULL JOIN keys USING (key_id)
WHERE key_id IS NOT NULL AND (spent.requests <> 0 OR NOT keys.deleted)
ORDER BY spend_usd DESC, key_id
"""  # noqa: S608 - constants only


def spend_of_all_users(where: str) -> str:
    """Return the SQL for what each user's keys spent, as `spend_of_all_keys` does."""
    return f"""
WITH spent AS (SELECT user_id, {_SUMS} FROM spend_parts {where} GROUP BY user_id)
SELECT user_id, users.user_alias, users.user_email,
       {_SUMS_OR_ZERO},
       users.deleted
FROM spent FULL JOIN users USING (user_id)
WHERE user_id IS NOT NULL AND (spent.requests <> 0 OR NOT users.deleted)
ORDER BY spend_usd DESC, user_id
"""  # noqa: S608 - constants only


def report_by_team(where: str) -> str:
    """Return the SQL for a line for each day, team, model and key."""
    return f"""
WITH spent AS (
    SELECT day, team_id, coalesce(model, model_name) AS model, key_id,
           arg_max(key_alias, day) AS key_alias, {_SUMS}
    FROM spend_parts {where} GROUP BY ALL HAVING sum(requests) <> 0)
SELECT strftime(day, '%Y-%m-%d') AS day, team_id, teams.team_alias, model, key_id, key_alias,
       spend_usd, total_tokens, requests, unpriced_requests
FROM spent LEFT JOIN teams USING (team_id)
ORDER BY day, team_id NULLS LAST, spend_usd DESC, model, key_id
"""  # noqa: S608 - constants only


def report_by_customer(where: str) -> str:
    """Return the SQL for a line for each day, end user, model and key; `where` is of `requests`."""
    return f"""
SELECT strftime(started_at, '%Y-%m-%d') AS day, end_user_id,
       coalesce(model, model_name) AS model, key_id, arg_max(key_alias, started_at) AS key_alias,
       coalesce(sum(cost_usd), 0) AS spend_usd, sum(total_tokens)::BIGINT AS total_tokens,
       count(*) AS requests, count(*) FILTER (unpriced) AS unpriced_requests
FROM requests {where}
GROUP BY ALL ORDER BY day, end_user_id, spend_usd DESC, model, key_id
"""  # noqa: S608 - constants only


def report_by_group(where: str, column: str) -> str:
    """Return the SQL for a line for each key (`key_id`) or user (`user_id`) and model."""
    return f"""
SELECT {column}, arg_max(key_alias, day) AS key_alias, coalesce(model, model_name) AS model,
       sum(cost_usd) AS spend_usd,
       sum({_PROMPT})::BIGINT AS prompt_tokens,
       sum(output_tokens)::BIGINT AS output_tokens,
       sum(requests)::BIGINT AS requests,
       sum(unpriced_requests)::BIGINT AS unpriced_requests
FROM spend_parts {where}
GROUP BY {column}, coalesce(model, model_name) HAVING sum(requests) <> 0
ORDER BY {column}, spend_usd DESC, model
"""  # noqa: S608 - constants only


def keys_from(reply: QueryReply, hash_of: HashOf) -> list[KeySpendRow]:
    """Return the rows of `spend_of_all_keys`."""
    return [
        KeySpendRow(
            token=hash_of(cells["key_id"]),
            **_named(cells, "key_id", "key_name", "key_alias", "user_id", "team_id"),
            **_spent(cells),
        )
        for cells in _cells(reply)
    ]


def users_from(reply: QueryReply) -> list[UserSpendRow]:
    """Return the rows of `spend_of_all_users`."""
    return [
        UserSpendRow(**_named(cells, "user_id", "user_alias", "user_email"), **_spent(cells))
        for cells in _cells(reply)
    ]


def tags_from(reply: QueryReply) -> list[TagSpend]:
    """Return the rows of services.admin.tag_spend."""
    return [
        TagSpend(
            individual_request_tag=cells["tag"],
            log_count=cells["requests"],
            total_spend=_usd(cells),
        )
        for cells in _cells(reply)
    ]


def teams_from(reply: QueryReply, hash_of: HashOf) -> list[ReportDay]:
    """Return the days of `report_by_team`."""
    return [
        ReportDay(
            group_by_day=day,
            teams=tuple(
                TeamReport(
                    team_id=team_id,
                    team_name=team_alias or team_id or "Unassigned",
                    total_spend=_total(lines),
                    metadata=_lines(lines, hash_of),
                )
                for (team_id, team_alias), lines in _grouped(of_day, "team_id", "team_alias")
            ),
        )
        for (day,), of_day in _grouped(list(_cells(reply)), "day")
    ]


def customers_from(reply: QueryReply, hash_of: HashOf) -> list[ReportDay]:
    """Return the days of `report_by_customer`."""
    return [
        ReportDay(
            group_by_day=day,
            customers=tuple(
                CustomerReport(
                    customer=customer, total_spend=_total(lines), metadata=_lines(lines, hash_of)
                )
                for (customer,), lines in _grouped(of_day, "end_user_id")
            ),
        )
        for (day,), of_day in _grouped(list(_cells(reply)), "day")
    ]


def groups_from(reply: QueryReply, column: str, hash_of: HashOf) -> list[GroupReport]:
    """Return the keys or users of `report_by_group`, those that spent most first."""
    found = [
        GroupReport(
            api_key=hash_of(group) if column == "key_id" and group is not None else None,
            key_alias=lines[0]["key_alias"] if column == "key_id" else None,
            user_id=group if column == "user_id" else None,
            total_cost=_total(lines),
            total_input_tokens=sum(each["prompt_tokens"] for each in lines),
            total_output_tokens=sum(each["output_tokens"] for each in lines),
            model_details=tuple(
                ModelCost(
                    model=each["model"],
                    total_cost=_usd(each),
                    total_input_tokens=each["prompt_tokens"],
                    total_output_tokens=each["output_tokens"],
                    unpriced_requests=each["unpriced_requests"],
                )
                for each in lines
            ),
        )
        for (group,), lines in _grouped(list(_cells(reply)), column)
    ]
    return sorted(found, key=lambda each: each.total_cost, reverse=True)


def _cells(reply: QueryReply) -> Iterator[dict[str, Any]]:
    names = [column.name for column in reply.columns]
    return (dict(zip(names, row, strict=True)) for row in reply.rows)


def _grouped(
    rows: list[dict[str, Any]], *names: str
) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Yield rows that follow one another and have the same values under some names."""
    for key, group in groupby(rows, lambda row: tuple(row[name] for name in names)):
        yield key, list(group)


def _named(cells: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: cells[name] for name in names}


def _spent(cells: dict[str, Any]) -> dict[str, Any]:
    names = ("requests", "total_tokens", "unpriced_requests", "deleted")
    return {"spend": _usd(cells), **_named(cells, *names)}


def _usd(cells: dict[str, Any]) -> Decimal:
    return money(cells["spend_usd"]) or Decimal(0)


def _total(lines: list[dict[str, Any]]) -> Decimal:
    return money(sum((Decimal(each["spend_usd"]) for each in lines), Decimal(0))) or Decimal(0)


def _lines(lines: list[dict[str, Any]], hash_of: HashOf) -> tuple[DayReportLine, ...]:
    return tuple(
        DayReportLine(
            spend=_usd(each),
            api_key=None if each["key_id"] is None else hash_of(each["key_id"]),
            **_named(each, "model", "total_tokens", "key_alias", "unpriced_requests"),
        )
        for each in lines
    )
