"""HTTP parts that every domain shares: bodies, query parameters, pages, concurrency limits, metrics, access log."""
