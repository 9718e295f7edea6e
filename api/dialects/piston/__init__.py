"""Piston's API v2: runtimes and execution under `/api/v2` and `/api/v2/piston`."""
