"""What every process stands on: NATS, configuration, data folder, logging, life cycle."""
