"""What happened, for people and for machines. Works on values handed to it alone."""
