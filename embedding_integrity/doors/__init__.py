"""What stands behind the words of `embedding-integrity`: options, and calls of what does the work.

Above all packages but `demo`; nothing imports it but the command, which has put them on the path.
"""
