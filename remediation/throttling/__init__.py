"""Says when a repair must wait, and what it may take at most.

May import `checks`, and no other room of `remediation`.
"""
