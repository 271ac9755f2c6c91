"""Says before a repair of one table what it would take: rows, requests, tokens and time."""
