"""The contract between the services: events, streams, keys, money, configuration and errors.

Depends on msgspec and the standard library alone, so that any program may read tallygate's
events with this package and nothing else.
"""
