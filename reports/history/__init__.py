"""Keeps what each run measured, and tells the trend. Reads and writes its own file alone."""
