"""The house rules that can be checked: what a commit must not carry, and where things live."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_LINES_MAX = 450
REGISTRY_HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org")


def tracked(*patterns: str) -> list[Path]:
    """Return the files that git tracks or would track, without ignored ones."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def test_no_file_names_a_package_registry() -> None:
    # Given all files, when they are searched, then no package registry's host is in them.
    found = [
        (path.relative_to(ROOT), host)
        for path in tracked()
        for host in REGISTRY_HOSTS
        if host in path.read_text("utf-8", "replace")
    ]
    assert found == []


def test_locks_hold_a_hash_for_every_package() -> None:
    # Given the locks, when their packages are listed, then each is pinned and has hashes.
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-tools.lock"):
        text = (ROOT / name).read_text()
        entries = re.split(r"\n(?=[a-zA-Z])", text)
        packages = [entry for entry in entries if not entry.startswith("#")]
        assert packages
        assert all("==" in entry and "--hash=sha256:" in entry for entry in packages), name


@pytest.mark.parametrize("folder", ["schemas", "services"])
def test_source_files_keep_to_one_purpose(folder: str) -> None:
    # Given all sources, when their lines are counted, then none has outgrown its purpose.
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked(f"{folder}/*.py")
        if (lines := len(path.read_text().splitlines())) > SOURCE_LINES_MAX
    }
    assert long == {}


def test_links_in_documents_lead_somewhere() -> None:
    # Given all documents, when their links to files are followed, then each file is there.
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tracked("*.md")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []
