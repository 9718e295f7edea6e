"""Runs the service on a stock Debian, as a new user would: a virtual machine with AppArmor, cgroup v2 and systemd.

`make test-vm SUITE=bookworm` or `SUITE=trixie`; see docs/testing.md. Standard library only, so that it starts with
nothing of the project installed.

Theory of operation
===================
1. `disk` makes a file system of Debian's own packages, nothing of this project, and boots it (`machine`) under QEMU,
   emulated unless VM_ACCEL names an accelerator.
2. `steps` does in it over ssh as a new user would, and reads what a user would read.
3. `report` prints a table of the steps, and keeps every log beside it.

The disk before the first boot, and the disk after `make up`, are kept in VM_CACHE and reused while a hash over their
inputs stays the same; each run works on an overlay of its own.
"""
