"""What the cases play on: servers, tables and their rows, and what must hold after each."""
