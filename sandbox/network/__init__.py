"""Relay the connections of a sandbox's proxy to the egress process, without reading what is in them."""
