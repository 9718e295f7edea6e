"""The host's end of the stream to the agent in a sandbox."""
