"""Control groups, written directly: one group per sandbox, on cgroup v1 (also hybrid) and v2.

File names and meanings: the kernel's Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst.
"""
