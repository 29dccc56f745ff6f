"""Takes a picture of every page of a running dashboard, wide and narrow, light and dark.

python -m tests.support.screens --demo DIR                      # the folder of `tallygate demo`
python -m tests.support.screens --url URL --key KEY --out DIR   # of any gateway
python -m tests.support.screens --demo DIR /ui/logs '/ui/logs?status=failure'   # these alone

Says of each page how long it took, what it weighs, and what is wrong with it.
"""

import argparse
import re
from pathlib import Path

import msgspec

from services.admin.ui.navigation import PAGES
from services.demo.app import STATE_FILE, DemoState
from tests.support.browser import FORMS, NARROW, Browser, Session, screens_folder


def main() -> int:
    """Take the pictures; return 1 where anything is wrong with a page."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.screens", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--demo", type=Path, help="the folder of a running demo")
    parser.add_argument("--url", help="where the gateway is")
    parser.add_argument("--key", help="the key to log in with")
    parser.add_argument("--out", type=Path, default=screens_folder(), help="where pictures go")
    parser.add_argument("paths", nargs="*", help="pages; by default those of the menu")
    values = parser.parse_args()
    url, key = values.url, values.key
    if values.demo is not None:
        state = msgspec.json.decode((values.demo / STATE_FILE).read_bytes(), type=DemoState)
        url, key = url or state.url, key or state.master_key
    if not url or not key:
        parser.error("give --demo DIR, or --url and --key")
    paths = values.paths or ["/ui/login", *(page.path for page in PAGES)]
    with Browser.started() as browser, browser.session(url) as session:
        session.log_in(key)
        return max([_shoot(session, path, values.out) for path in paths])


def _shoot(session: Session, path: str, out: Path) -> int:
    look = session.open_afresh(path)
    faults = [f"status {look.status}"] if look.status != 200 else []
    name = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")
    for form in FORMS:
        session.show(form)
        faults += [f"{form.name}: axe: {each}" for each in session.axe()]
        if form.width == NARROW:
            faults += [f"{form.name}: sideways: {each}" for each in session.sideways()]
        session.shoot(out / f"{name}-{form.name}.png")
    faults += look.faults
    print(f"{path}: {look.seconds * 1000:.0f} ms, {look.bytes / 1024:.0f} KiB, {out}/{name}-*.png")
    for fault in faults:
        print(f"  {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
