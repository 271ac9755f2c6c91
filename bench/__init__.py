"""Benchmarks, each with its baseline, as ratios within one run."""
