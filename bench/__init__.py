"""Measurements of the running service, as ratios taken in one run. See `docs/performance.md`."""
