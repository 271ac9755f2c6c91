"""Says what must hold of the embeddings, and whether it does. Only reads the database."""
