"""Runs: routes, service, request and document, events, and the reconciliation of results."""
