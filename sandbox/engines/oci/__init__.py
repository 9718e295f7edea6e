"""Engine `oci`: an OCI runtime driven directly, with no daemon.

One sandbox is, in the order it is made: a slot (a range of host uids with a user namespace of its own), a
cgroup whose files are written here, an overlay mount of the image's layers, and one `crun run --detach` with
a configuration written here. The worker is the subreaper, so PID 1 of the sandbox becomes its child. All
mounts live in the worker's private mount namespace and end with it.
"""
