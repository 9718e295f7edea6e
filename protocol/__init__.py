"""The types that travel between api and worker, and the rules of a job: no power, no I/O."""
