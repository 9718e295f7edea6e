"""One run: its plan, its events while it is alive, and its outcome."""
