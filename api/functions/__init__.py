"""Functions: named programs with versions, built once and called with JSON."""
