"""Tests which rows are read, and how they are grouped."""
