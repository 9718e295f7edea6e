"""The source `template`: sandboxes that are forked from a booted interpreter and confine themselves.

One container per runner image (`container.py`) is root of a user namespace that maps every slot's ids, and of
nothing else; its agent (`runners/agent/template.py`) runs no program. For each sandbox the worker (`source.py`)
makes a root of its own as a detached overlay mount, sends it with the sandbox's stream, puts the child into its
control group, and resumes it: the child confines itself as the host described (`walls.py`), exactly as the
runtime's configuration does, and is PID 1 of a sandbox like any other. It is measured like any other, too.
"""
