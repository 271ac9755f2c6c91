"""Guesses the entries of tables whose embeddings stand in another table, and what links the two."""
