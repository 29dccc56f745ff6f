"""Conditions of a query: their SQL is ours, their values are parameters. Pure."""

from services.admin.bodies_spend import LogFilters
from services.admin.days import midnight_us, moment_us

__all__ = ["Conditions", "day_conditions", "log_conditions"]


class Conditions:
    """What a query's rows must all meet, and the parameters that it needs for that."""

    def __init__(self) -> None:
        self.parameters: list[object] = []
        self._texts: list[str] = []

    def add(self, template: str, *values: object) -> None:
        """Add a condition; `{0}`, `{1}`, … in it stand for the values."""
        first = len(self.parameters) + 1
        self.parameters += values
        marks = [f"${number}" for number in range(first, first + len(values))]
        self._texts.append(template.format(*marks))

    def copy(self) -> "Conditions":
        """Return the same conditions, to which others can be added."""
        other = Conditions()
        other.parameters, other._texts = list(self.parameters), list(self._texts)
        return other

    @property
    def where(self) -> str:
        """The WHERE of a query, empty where nothing is asked for."""
        return f"WHERE {' AND '.join(self._texts)}" if self._texts else ""


def log_conditions(
    filters: LogFilters,
    key_id: str | None,
    start_date: str | None,
    end_date: str | None,
    *,
    of_days: bool = False,
) -> Conditions:
    """Return what rows of `requests` must meet, or with `of_days` parts of `spend_parts`.

    Parts know no single requests, sessions and end users: such filters are not for them. Raises
    BadRequest where a time is none.
    """
    found = Conditions()
    if of_days:
        day_conditions(found, start_date, end_date)
    else:
        if start_date is not None:
            start_us = moment_us("start_date", start_date)
            found.add("started_at >= make_timestamp({0}::BIGINT)", start_us)
        if end_date is not None:
            end_us = moment_us("end_date", end_date, is_end=True)
            found.add("started_at < make_timestamp({0}::BIGINT)", end_us)
    for column, value in (
        ("key_id", key_id),
        ("user_id", filters.user_id),
        ("team_id", filters.team_id),
        ("request_id", filters.request_id),
        ("session_id", filters.session_id),
        ("end_user_id", filters.end_user),
    ):
        if value is not None:
            found.add(f"{column} = {{0}}::VARCHAR", value)
    if filters.model is not None:
        found.add("(model_name = {0}::VARCHAR OR model = {0}::VARCHAR)", filters.model)
    if filters.status_filter == "failure":
        found.add("status <> 'success'")
    elif filters.status_filter is not None:
        found.add("status = {0}::VARCHAR", filters.status_filter)
    return found


def day_conditions(
    found: Conditions, start_date: str | None, end_date: str | None, column: str = "day"
) -> None:
    """Add the bounds of a period of days (UTC), both included. Raises BadRequest."""
    if start_date is not None:
        start_us = midnight_us("start_date", start_date)
        found.add(f"{column} >= make_timestamp({{0}}::BIGINT)", start_us)
    if end_date is not None:
        end_us = midnight_us("end_date", end_date, days_after=1)
        found.add(f"{column} < make_timestamp({{0}}::BIGINT)", end_us)
