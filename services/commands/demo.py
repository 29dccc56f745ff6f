"""`tallygate demo`: the whole gateway with a made-up history, to be looked at."""

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

from services.demo.app import DemoOptions, run_demo

__all__ = ["demo"]


def demo(values: argparse.Namespace) -> int:
    """Run until a signal; return the exit code. Raises TallygateError where it cannot start."""
    if values.folder is not None:
        return _run(values, values.folder.absolute())
    folder = Path(tempfile.mkdtemp(prefix="tallygate-demo-"))
    try:
        return _run(values, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(values: argparse.Namespace, folder: Path) -> int:
    options = DemoOptions(
        folder=folder,
        port=values.port,
        requests=values.requests,
        seed=values.seed,
        per_minute=values.per_minute,
    )
    return asyncio.run(run_demo(options))
