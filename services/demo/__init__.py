"""The demo: the whole gateway over an upstream of its own, with three weeks of made-up history.

Nobody in it exists. What it makes are events of the gateway's own kinds, which it publishes to the
streams with past times; the ledger prices and books them as it does with all others.
"""
