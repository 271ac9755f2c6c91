"""Embeds healthy rows again before the first write, and says what text agrees better."""
