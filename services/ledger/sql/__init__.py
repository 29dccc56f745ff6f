"""The ledger's SQL: its tables and views."""
