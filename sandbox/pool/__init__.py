"""Warm sandboxes: queues that are ready, their sizes, and whether sandboxes can be made."""
