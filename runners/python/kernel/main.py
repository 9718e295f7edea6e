"""Run the kernel of a Python context; docs/kernels.md is its interface.

A kernel that is forked from the agent's own interpreter does not come here, but to the same function.
"""

from runyard_kernel.loop import main

main()
