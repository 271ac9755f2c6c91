"""The last screen of a run: what fails, by check and table, and what to type next."""
