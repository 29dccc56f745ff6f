"""The dashboard's pages: the one list that the menu, the documents and the tests go by."""

from typing import Literal

import msgspec

__all__ = ["PAGES", "Page", "menu_of"]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the menu. `needs` is what its viewer must be: see Viewer."""

    path: str
    title: str
    group: Literal["", "Access", "Spend", "Control", "System"]
    needs: Literal["session", "sees_all", "may_manage", "may_ask"] = "session"


PAGES: tuple[Page, ...] = (
    Page(path="/ui", title="Overview", group=""),
    Page(path="/ui/logs", title="Logs", group=""),
    Page(path="/ui/sessions", title="Sessions", group=""),
    Page(path="/ui/usage", title="Usage", group=""),
    Page(path="/ui/keys", title="Virtual Keys", group="Access"),
    Page(path="/ui/teams", title="Teams", group="Access"),
    Page(path="/ui/users", title="Users", group="Access", needs="sees_all"),
    Page(path="/ui/models", title="Models & prices", group="Access"),
    Page(path="/ui/budgets", title="Budgets", group="Control"),
    Page(path="/ui/quotas", title="Quotas", group="Control"),
    Page(path="/ui/guardrails", title="Guardrails", group="Control"),
    Page(path="/ui/audit", title="Audit", group="System", needs="sees_all"),
    Page(path="/ui/sql", title="SQL", group="System", needs="may_ask"),
    Page(path="/ui/health", title="Health", group="System", needs="sees_all"),
)
"""In the order of the menu."""


def menu_of(*, sees_all: bool, may_manage: bool, may_ask: bool) -> list[tuple[str, list[Page]]]:
    """Return the pages that a viewer may open, by group."""
    is_met = {"session": True, "sees_all": sees_all, "may_manage": may_manage, "may_ask": may_ask}
    groups: dict[str, list[Page]] = {}
    for page in PAGES:
        if is_met[page.needs]:
            groups.setdefault(page.group, []).append(page)
    return list(groups.items())
