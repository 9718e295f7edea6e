"""Packages of runs and sessions: the requests that are permitted, and the layers that were made of them."""
