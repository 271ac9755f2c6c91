"""Tells what happened, to people and to machines. Works on values handed to it alone."""
