"""Words what does not hold, shows the statement that lists it, and weighs what was accepted."""
