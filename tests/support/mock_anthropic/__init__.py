"""A mock of the Anthropic API as a program of its own: `python -m tests.support.mock_anthropic`.

It answers the way api.anthropic.com does, misbehaves on request (see `scenario`), remembers what it
was sent and what it answered (see `records`), and is fast enough to stand behind a benchmark. It
imports nothing of the gateway, so that the two cannot share a mistake.

The parts: `scenario` (what can be asked for), `messages` (Anthropic's shapes), `replies` (a
scenario as a list of steps on the wire), `connection` (HTTP on one socket), `control` (the
`/__mock__/` paths), `stores` (batches and files), `records` (what happened), `__main__` (the
command line).
"""
