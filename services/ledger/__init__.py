"""The ledger: usage events become exact costs in DuckDB, each exactly once."""

import os

# Before Arrow is loaded, for the whole process. Its own allocator maps 1 GiB at its first
# allocation, and as much again where that is not enough; all of it counts against the limit of the
# reader's process, whatever is in it, which left too little for the books themselves (measured).
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
