"""Loads the shared fixtures."""

pytest_plugins = [
    "tests.support.fixtures",
    "tests.support.nats_fixtures",
    "tests.support.workers",
]
