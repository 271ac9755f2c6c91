"""ANN indexes held against what is declared, and the partial index that finds missing rows."""
