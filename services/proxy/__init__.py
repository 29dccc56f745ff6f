"""The proxy: authenticates, forwards, meters, and writes what happened into its outbox."""
