"""The ledger's processes take Arrow's memory as they need it."""

import subprocess
import sys


def test_arrow_maps_no_memory_that_it_does_not_need() -> None:
    # Given a process that loads the ledger, when Arrow makes its first array, then that adds less
    # to what the process has mapped than the gigabyte that Arrow's own allocator takes at once.
    program = (
        "import services.ledger\n"
        "import pyarrow as pa\n"
        "from pathlib import Path\n"
        "def mapped_kb():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(each.split()[1]) for each in lines if each.startswith('VmData:'))\n"
        "before = mapped_kb()\n"
        "pa.table({'cells': pa.array(range(1000))})\n"
        "print(mapped_kb() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 100_000
