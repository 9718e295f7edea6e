"""Posture: what confines a sandbox, measured from outside and held against what was reviewed.

Every layer can fail open silently: a daemon accepts a profile that does not exist, a runtime ignores one, a
kernel lacks a feature. So the first sandbox of every image, the *canary*, is measured before any program runs in
one: the worker reads the host kernel's view of the canary's processes (`facts`), and compares it, layer by
layer (`layers`), with the file of its engine and runtime in this folder (`golden`). A required layer that is
missing stops the service (`canary`). This does not delay a run: every later sandbox of the same image is
checked against the short list of `sandbox.engines.pid1_status` alone.

The files are written by `make posture` from a machine that is known to be good, and reviewed by hand; no test and
no service ever writes them.
"""
