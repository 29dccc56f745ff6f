"""What tags spent: those of keys, as they have them now, and those that requests brought along.

A request that has a tag of its key's counts once for it. The sums of keys are those that the ledger
keeps by day; of requests only those are read that have tags.
"""

from services.admin.own_spend import add_own
from services.admin.principal import Principal
from services.admin.sql_where import Conditions, day_conditions

__all__ = ["spend_of_tags"]


def spend_of_tags(
    start_date: str | None, end_date: str | None, caller: Principal
) -> tuple[str, Conditions]:
    """Return the SQL for what each tag spent, of what is the caller's, and its parameters.

    Raises BadRequest for what is no day.
    """
    of_days = Conditions()
    add_own(of_days, caller)
    day_conditions(of_days, start_date, end_date)
    of_requests = Conditions()
    of_requests.parameters = of_days.parameters
    of_requests.add("tags IS NOT NULL")
    add_own(of_requests, caller)
    day_conditions(of_requests, start_date, end_date, "started_at")
    sql = f"""
WITH spent AS (
    SELECT key_id, sum(requests)::BIGINT AS requests, sum(cost_usd) AS spend_usd
    FROM spend_parts {of_days.where} GROUP BY key_id),
tagged AS (SELECT key_id, unnest(tags) AS tag FROM keys),
brought AS (
    SELECT key_id, unnest(string_split(tags, ',')) AS tag, cost_usd
    FROM requests {of_requests.where}),
parts AS (
    SELECT tag, spent.requests, spent.spend_usd
    FROM tagged JOIN spent USING (key_id) WHERE spent.requests <> 0
    UNION ALL
    SELECT brought.tag, count(*), coalesce(sum(brought.cost_usd), 0)
    FROM brought LEFT JOIN tagged ON tagged.key_id = brought.key_id AND tagged.tag = brought.tag
    WHERE tagged.tag IS NULL GROUP BY brought.tag)
SELECT tag, sum(requests)::BIGINT AS requests, sum(spend_usd) AS spend_usd
FROM parts GROUP BY tag ORDER BY spend_usd DESC, tag
"""  # noqa: S608 - constants only
    return sql, of_days
