"""The client commands, for whoever builds a command line of them."""

import rich_click as click

from services.client.alerts import alerts
from services.client.audit import audit
from services.client.budgets import budgets
from services.client.claude_code import claude_code
from services.client.keys import keys
from services.client.login import login, logout
from services.client.logs import logs
from services.client.models import models
from services.client.prices import prices
from services.client.reload import reload
from services.client.reprice import reprice
from services.client.spend import spend
from services.client.sql import sql
from services.client.teams import teams
from services.client.top import top
from services.client.users import users

__all__ = ["client_commands"]

client_commands: tuple[click.Command, ...] = (
    sql,
    keys,
    teams,
    users,
    budgets,
    models,
    prices,
    spend,
    logs,
    top,
    reprice,
    reload,
    audit,
    alerts,
    claude_code,
    login,
    logout,
)
