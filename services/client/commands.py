"""The client commands, for whoever builds a command line of them."""

import rich_click as click

from services.client.alerts import alerts
from services.client.audit import audit
from services.client.keys import keys
from services.client.prices import prices
from services.client.reload import reload
from services.client.reprice import reprice
from services.client.sql import sql

__all__ = ["client_commands"]

client_commands: tuple[click.Command, ...] = (sql, keys, prices, reprice, reload, audit, alerts)
