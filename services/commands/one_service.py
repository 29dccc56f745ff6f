"""`tallygate proxy`, `ledger` and `admin`: one service in this process."""

import argparse
import os
from collections.abc import Awaitable, Callable

from schemas.errors import ConfigError
from services.commands.addresses import checked_admin_url, checked_metrics_address, checked_nats_url
from services.commands.arguments import config_path
from services.runtime.config_file import ConfigFile
from services.runtime.folder import DataFolder
from services.runtime.service import ServiceContext, run_service

__all__ = ["run_admin", "run_ledger", "run_proxy"]


def run_proxy(values: argparse.Namespace) -> int:
    """Run one worker of the proxy; return the exit code."""
    file, folder, nats_url = _common(values)
    admin_url = file.config.settings.admin_url
    if values.admin_url:
        admin_url = checked_admin_url(values.admin_url)

    async def main(context: ServiceContext) -> None:
        from services.proxy.app import run

        await run(
            context,
            fd=values.fd,
            host=values.host,
            port=values.port,
            worker=values.worker,
            admin_url=admin_url,
        )

    part = f"proxy-{values.worker}"
    return _run(main, part, values, (file, folder, nats_url))


def run_ledger(values: argparse.Namespace) -> int:
    """Run the ledger's writer or reader; return the exit code."""
    file, folder, nats_url = _common(values)

    async def main(context: ServiceContext) -> None:
        from services.ledger.app import run

        await run(context, values.role)

    return _run(main, f"ledger-{values.role}", values, (file, folder, nats_url))


def run_admin(values: argparse.Namespace) -> int:
    """Run the admin service; return the exit code."""
    file, folder, nats_url = _common(values)

    async def main(context: ServiceContext) -> None:
        from services.admin.app import run

        await run(context, fd=values.fd, host=values.host, port=values.port)

    return _run(main, "admin", values, (file, folder, nats_url))


def _run(
    main: Callable[[ServiceContext], Awaitable[None]],
    part: str,
    values: argparse.Namespace,
    common: tuple[ConfigFile, DataFolder, str],
) -> int:
    file, folder, nats_url = common
    return run_service(
        main,
        part=part,
        file=file,
        folder=folder,
        nats_url=nats_url,
        metrics_address=checked_metrics_address(values.metrics),
    )


def _common(values: argparse.Namespace) -> tuple[ConfigFile, DataFolder, str]:
    path = config_path(values.config).absolute()
    file = ConfigFile(path, os.environ, accepted=values.accepted)
    nats_url = values.nats_url or file.config.settings.nats_url
    if not nats_url:
        raise ConfigError(
            "no NATS server is named: set TALLYGATE_NATS_URL, `tallygate: nats_url` in the "
            "configuration, or --nats-url; `tallygate serve` brings its own"
        )
    return file, DataFolder(values.data), checked_nats_url(nats_url)
