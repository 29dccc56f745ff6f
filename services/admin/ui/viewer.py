"""Who looks at the dashboard, and which rows of the ledger they may see."""

import msgspec

from services.admin.own_spend import add_own
from services.admin.principal import Principal
from services.admin.sql_where import Conditions
from services.admin.ui.sessions import Session

__all__ = ["Viewer"]


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """One who is logged in, with the rights that their credential has now.

    `csrf_token` is what every request that changes something must carry.
    """

    caller: Principal
    session: Session
    csrf_token: str

    @property
    def name(self) -> str:
        """How the menu calls them."""
        key = self.caller.key
        return "master key" if key is None else key.key_alias or key.key_name

    @property
    def role(self) -> str:
        """Their role in words; that of a key without one is what it sees."""
        return self.caller.role or "own key only"

    @property
    def sees_all(self) -> bool:
        """Whether every row may be seen."""
        return self.caller.sees_all

    @property
    def may_manage(self) -> bool:
        """Whether everything may be changed."""
        return self.caller.manages_all

    @property
    def may_ask(self) -> bool:
        """Whether the ledger may be asked in SQL."""
        key = self.caller.key
        return self.sees_all or (key is not None and key.analyst is not None)

    @property
    def may_make_keys(self) -> bool:
        """Whether keys may be made: any, one's own, or those of a team that one manages."""
        caller = self.caller
        return caller.manages_all or caller.manages_own_keys or bool(caller.teams_administered)

    def conditions(self) -> Conditions:
        """Return the conditions that every query for this viewer begins with.

        They hold for all tables and views with key_id, user_id and team_id: every row for those
        who see all; else those of the user and of the teams that the user manages; for a key
        without a role its own.
        """
        found = Conditions()
        add_own(found, self.caller)
        return found
