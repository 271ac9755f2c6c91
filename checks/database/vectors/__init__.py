"""Says in SQL what pgvector's and arrays' values are, and where they are indexed."""
