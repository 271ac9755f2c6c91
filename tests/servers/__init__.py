"""What tests connect to and ask: a standby, providers, services; none of it is a mock."""
