"""API keys: authentication, plans, usage, and the administrator's routes."""
