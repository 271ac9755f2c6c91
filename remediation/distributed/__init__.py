"""Repairs by many machines: a coordinator splits the selection into jobs, workers do them.

The only room that may import procrastinate, the queue that the jobs wait in.
"""
