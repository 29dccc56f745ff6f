"""The ledger: usage events become exact costs in DuckDB, each exactly once."""
