"""Posture: what confines a sandbox, measured from outside and held against what was reviewed.

Every layer can fail open without a word: a daemon accepts a profile that does not exist, a runtime ignores one, a
kernel lacks a feature. So the first sandbox of every image, the *canary*, is looked at before anything is run in
one: the worker reads what the host's kernel says of the canary's processes (`facts`), and compares it, layer by
layer (`layers`), with the file of its engine and runtime in this folder (`golden`). A layer that is required and
not in force stops the service (`canary`). Nothing of this is on the way of a run: every later sandbox of the same
image is held against the short list of `sandbox.engines.pid1_status` alone.

The files are written by `make posture` from a machine that is known to be good, and reviewed by hand; no test and
no service ever writes them.
"""
