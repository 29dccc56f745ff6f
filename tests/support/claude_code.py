"""Runs the real Claude Code, headless, in a clean environment and a home of its own.

The version is pinned: tests compare what exactly this client sends and shows. The program is found
in this order: the path in TALLYGATE_CLAUDE_CODE; the repository's `.tools/claude-code/`; else npm
installs it there, once, which takes some 15 seconds and 400 MB. A client that cannot be had fails
the test: a run without it would prove nothing.
"""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

__all__ = [
    "CLAUDE_CODE_VERSION",
    "ClaudeCodeUnavailable",
    "ClaudeResult",
    "claude_code_path",
    "claude_environment",
    "log_in",
    "make_home",
    "print_claude",
    "run_claude",
]

CLAUDE_CODE_VERSION = "2.1.330"
"""The version of the npm package @anthropic-ai/claude-code that the tests run."""

INSTALL_TIMEOUT_S = 300.0
"""How long npm may take; it needs some 15 seconds on a quiet machine."""
RUN_TIMEOUT_S = 120.0
"""How long one run may take; it needs 1 to 3 seconds on a quiet machine."""
RETRIES_MAX = 2
"""How often the client repeats a failed request (its own default is 10, for three minutes)."""

DEVICE_ID = "0123456789abcdef" * 4
"""The id that a prepared home has; without one, the client makes up a new one for every home."""

_TOOLS = Path(__file__).resolve().parents[2] / ".tools"
_ENVIRONMENT_VARIABLE = "TALLYGATE_CLAUDE_CODE"
_VERSION_TIMEOUT_S = 60.0


class ClaudeCodeUnavailable(Exception):
    """The pinned client is not there and could not be installed."""


class ClaudeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a run printed. `output` is the whole JSON result, the other fields are taken from it.

    An error of the API is `is_error` with `api_error_status`; its `subtype` says "success" all the
    same, so that field is not looked at.
    """

    exit_code: int
    result: str
    is_error: bool
    api_error_status: int | None
    session_id: str
    turns: int
    cost_usd: float
    output: dict[str, Any]
    stderr: str


@cache
def claude_code_path() -> Path:
    """Return the executable, installing it first where it must be.

    Raises ClaudeCodeUnavailable if there is none of the pinned version.
    """
    given = os.environ.get(_ENVIRONMENT_VARIABLE)
    if given:
        path = Path(given)
        _check_version(path)
        return path
    prefix = _TOOLS / "claude-code" / CLAUDE_CODE_VERSION
    path = prefix / "node_modules" / ".bin" / "claude"
    prefix.mkdir(parents=True, exist_ok=True)
    # The lock lets tests that run side by side install once; it goes with the process.
    with (_TOOLS / "claude-code.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = prefix / "installed"
        if not marker.exists():
            _install(prefix)
            _check_version(path)
            marker.touch()
    return path


def _install(prefix: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ClaudeCodeUnavailable(
            f"npm is not on the PATH, so Claude Code {CLAUDE_CODE_VERSION} cannot be installed; "
            f"install Node.js, or give the path of the program in {_ENVIRONMENT_VARIABLE}"
        )
    package = f"@anthropic-ai/claude-code@{CLAUDE_CODE_VERSION}"
    command = [npm, "install", "--prefix", str(prefix), package, "--no-audit", "--no-fund"]
    command += ["--cache", str(_TOOLS / "npm-cache")]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ClaudeCodeUnavailable(f"npm took more than {INSTALL_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise ClaudeCodeUnavailable(f"npm could not install {package}:\n{done.stderr[-2000:]}")


def _check_version(path: Path) -> None:
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClaudeCodeUnavailable(f"{path} does not run: {error}") from error
    if done.stdout.split(" ")[0] != CLAUDE_CODE_VERSION:
        raise ClaudeCodeUnavailable(
            f"{path} says {done.stdout.strip()!r}, the tests need {CLAUDE_CODE_VERSION}"
        )


def make_home(home: Path) -> Path:
    """Make a home in which the client was set up before, and in it a project; return the latter.

    Two runs in homes of the same path then send the same bytes, and an interactive one does not ask
    for a theme.
    """
    project = home / "project"
    project.mkdir(parents=True)
    settings = {
        "userID": DEVICE_ID,
        "hasCompletedOnboarding": True,
        "lastOnboardingVersion": CLAUDE_CODE_VERSION,
        "theme": "dark",
    }
    (home / ".claude.json").write_text(json.dumps(settings))
    return project


def log_in(home: Path, token: str) -> None:
    """Leave in a home what `/login` leaves there for a subscriber."""
    login = {
        "accessToken": token,
        "refreshToken": "sk-ant-ort01-never-used",
        "expiresAt": 4_000_000_000_000,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    folder = home / ".claude"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".credentials.json").write_text(json.dumps({"claudeAiOauth": login}))


def claude_environment(
    base_url: str,
    *,
    virtual_key: str | None,
    oauth_token: str | None,
    model: str | None,
    home: Path,
) -> dict[str, str]:
    """Return the whole environment of a run: nothing of the caller's but the PATH."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "IS_SANDBOX": "1",
        # The updater would install a newer client for the whole machine.
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES_MAX),
        "ANTHROPIC_BASE_URL": base_url,
    }
    if oauth_token is not None:
        environment["CLAUDE_CODE_OAUTH_TOKEN"] = oauth_token
    if virtual_key is not None:
        environment["ANTHROPIC_CUSTOM_HEADERS"] = f"x-litellm-api-key: Bearer {virtual_key}"
    if model is not None:
        environment["ANTHROPIC_MODEL"] = model
    return environment


def run_claude(
    base_url: str,
    virtual_key: str | None,
    prompt: str,
    *,
    home: Path,
    oauth_token: str | None = "sk-ant-oat01-test",
    model: str | None = "anthropic-claude",
    extra_args: Sequence[str] = (),
    extra_environment: Mapping[str, str] | None = None,
    timeout_s: float = RUN_TIMEOUT_S,
) -> ClaudeResult:
    """Ask the real client one question, in the way of a subscriber behind the gateway.

    `home` becomes its home and, in `home/project`, its working directory. `virtual_key` None sends
    no virtual key, `oauth_token` None no subscription (name another credential, such as
    ANTHROPIC_API_KEY, in `extra_environment`). Raises ClaudeCodeUnavailable without a client,
    subprocess.TimeoutExpired when it takes too long, AssertionError when it prints no JSON.
    """
    project = home / "project"
    project.mkdir(parents=True, exist_ok=True)
    environment = claude_environment(
        base_url, virtual_key=virtual_key, oauth_token=oauth_token, model=model, home=home
    )
    done = print_claude(
        [prompt, "--output-format", "json", *extra_args],
        environment | dict(extra_environment or {}),
        project,
        timeout_s=timeout_s,
    )
    try:
        output: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise AssertionError(f"no JSON: {done.stdout!r} {done.stderr!r}") from error
    return ClaudeResult(
        exit_code=done.returncode,
        result=output.get("result", ""),
        is_error=output["is_error"],
        api_error_status=output.get("api_error_status"),
        session_id=output["session_id"],
        turns=output.get("num_turns", 0),
        cost_usd=output.get("total_cost_usd", 0.0),
        output=output,
        stderr=done.stderr,
    )


def print_claude(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    project: Path,
    *,
    timeout_s: float = RUN_TIMEOUT_S,
) -> "subprocess.CompletedProcess[str]":
    """Run `claude -p` with an environment of its own and return what it printed.

    Raises ClaudeCodeUnavailable without a client, subprocess.TimeoutExpired when it takes too long.
    """
    return subprocess.run(
        [claude_code_path(), "-p", *arguments],
        env=dict(environment),
        cwd=project,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
