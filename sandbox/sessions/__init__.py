"""Sandboxes that are used many times: channels of their one stream, and the one thread that serves them all."""
