"""The client commands of the command line: they talk to a running gateway over HTTP alone."""
