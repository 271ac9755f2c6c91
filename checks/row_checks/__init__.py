"""Says of each row check which rows fail it, as one SQL predicate.

May import the rooms `settings`, `database` and `targets`.
"""
