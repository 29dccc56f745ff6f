"""What the gateway costs: added latency, requests a second, CPU, memory, start-up."""
