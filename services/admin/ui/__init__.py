"""The dashboard: pages under /ui, rendered on the server.

It can do nothing that the management API does not let the same credential do: what a page changes
or lists goes through the API's own routes (`api_calls`), and what it sums it asks the ledger with
the conditions of its viewer (`viewer`).
"""
