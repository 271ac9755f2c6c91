"""The doors: the command `embedding-integrity`, and how the checks join other people's tests.

The only package that an installation adds: the others lie in its folder `rootdir`, out of the way
of a team's own `checks` and `reports`. In a checkout they lie beside it.
"""
