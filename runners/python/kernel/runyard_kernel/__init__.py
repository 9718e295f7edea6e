"""The kernel of Python contexts: IPython's shell, whose output goes to the worker as docs/kernels.md has it."""
