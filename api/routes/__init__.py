"""One blueprint per subject of the native API."""
