"""Admission control: which run gets a place and memory, and which waits."""
