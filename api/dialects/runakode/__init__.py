"""runakode's wire contract: `POST /api` and `GET /health`."""
