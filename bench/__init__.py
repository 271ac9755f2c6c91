"""Measures against baselines, as ratios within one run."""
