"""`make test-vm SUITE=bookworm|trixie`: boot a stock Debian and try the service in it. Exit status 0 if all went well.

Options come from the environment: VM_CACHE (where disks are kept), VM_LOGS, VM_ACCEL (tcg), VM_FRESH=1 (make the disks
anew), VM_STEPS (a regular expression: of the steps after the first `make up` only those whose names match),
VM_PATIENCE (3: how many times longer than measured at the start a step may take, as the host may get busier).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ops import install
from tests.vm import steps
from tests.vm.disk import SUITES, Disk, digest, make_disk
from tests.vm.machine import DEFAULT_ACCEL, Machine
from tests.vm.report import Report

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "qemu-utils": "/usr/bin/qemu-img",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-trixie-automatic.*",
    "e2fsprogs": "/sbin/mke2fs",
    "openssh-client": "/usr/bin/ssh",
}
#: A fixed piece of work; emulation is measured by it, here and there.
LOOP = "import time; began = time.process_time(); sum(range(20_000_000)); print(time.process_time() - began)"
LOOP_S = 300
PATIENCE = 3.0
#: What the disk after `make up` depends on, beside the stock disk: what goes into the images and the environment.
UP_INPUTS = ("requirements.lock", "runners", "ops/images")


class Suite:
    """One run of one suite."""

    def __init__(self, suite: str) -> None:
        self._suite = suite
        self._cache = Path(os.environ.get("VM_CACHE") or "/var/cache/runyard-vm")
        logs = os.environ.get("VM_LOGS") or f"{self._cache}/logs/{suite}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._logs = Path(logs)
        self._accel = os.environ.get("VM_ACCEL") or DEFAULT_ACCEL
        self._fresh = bool(os.environ.get("VM_FRESH"))
        self._wanted = re.compile(os.environ.get("VM_STEPS") or "")
        self._report = Report(self._logs, float(os.environ.get("VM_PATIENCE") or PATIENCE))

    def run(self) -> bool:
        """Make what is not there, run every step, print the table. Returns whether all went well."""
        self._logs.mkdir(parents=True, exist_ok=True)
        disk = self._stock_disk()
        scratch = Path(tempfile.mkdtemp(prefix=f"run-{self._suite}-", dir=self._cache))
        try:
            self._try(disk, scratch)
        finally:
            shutil.rmtree(scratch)
            print(
                f"\n{self._suite}, {self._report.factor:.1f} times slower than this machine; logs: {self._logs}\n"
            )
            print(self._report.table(), flush=True)
        return self._report.is_good

    def _stock_disk(self) -> Disk:
        folder = self._cache / f"stock-{self._suite}-{digest(self._suite)}"
        if self._fresh:
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            self._report.attempt("a stock disk", lambda: make_disk(self._suite, folder))
        return Disk.of(folder)

    def _try(self, disk: Disk, scratch: Path) -> None:
        kept = disk.image.with_name(f"up-{_up_digest()}.qcow2")
        if self._fresh:
            kept.unlink(missing_ok=True)
        image = scratch / "disk.qcow2"
        _overlay(kept if kept.exists() else disk.image, image)
        with Machine(disk, image, self._logs, self._accel) as machine:
            if not self._report.attempt("boot", machine.start):
                return
            self._report.factor = max(1.0, _seconds(machine) / _seconds(None))
            self._report.run(machine, steps.KERNEL)
            self._clone(machine)
            if not kept.exists():
                if not self._report.run(machine, steps.FIRST_UP):
                    return
                self._keep(machine, image, kept)
            self._steps(machine)

    def _clone(self, machine: Machine) -> None:
        """Give the machine this checkout's last commit, as a clone."""

        def clone() -> None:
            bundle = self._logs / "checkout.bundle"
            subprocess.run(["git", "bundle", "create", "-q", str(bundle), "HEAD"], cwd=ROOT, check=True)
            machine.copy_in([bundle], "/root/checkout.bundle")
            command = f"rm -rf {steps.CHECKOUT} && git clone -q /root/checkout.bundle {steps.CHECKOUT}"
            done = machine.run(command, timeout_s=300)
            if done.returncode != 0:
                raise RuntimeError(done.stdout.decode(errors="replace"))

        self._report.attempt("clone", clone)

    def _keep(self, machine: Machine, image: Path, kept: Path) -> None:
        """Keep the disk after the first `make up`, stopped, for the next run with the same inputs."""

        def keep() -> None:
            machine.run(steps.DOWN, timeout_s=120 * self._report.factor * self._report.patience)
            machine.poweroff()
            for old in kept.parent.glob("up-*.qcow2"):
                old.unlink()
            shutil.copyfile(image, kept.with_suffix(".new"))
            kept.with_suffix(".new").rename(kept)
            image.unlink()
            _overlay(kept, image)
            machine.start()

        self._report.attempt("keep the disk", keep)

    def _steps(self, machine: Machine) -> None:
        tests = steps.tests(self._report.factor * self._report.patience)
        listed = (*steps.README, tests, *steps.APPARMOR, *steps.BAD_MACHINE, *steps.END, *steps.SYSTEMD)
        for step in listed:
            if not self._wanted.search(step.name):
                continue
            if step.reboots:
                self._report.attempt(f"{step.name}: the boot", machine.reboot)
            self._report.run(machine, step)


def _overlay(backing: Path, image: Path) -> Path:
    """Make an image that writes beside `backing`, which stays as it is."""
    backing_format = "qcow2" if backing.suffix == ".qcow2" else "raw"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(image)]
    subprocess.run(argv, check=True)
    return image


def _seconds(machine: Machine | None) -> float:
    """Return the CPU seconds that LOOP takes in the machine, or here."""
    argv = ["/usr/bin/python3", "-I", "-c", LOOP]
    if machine is not None:
        return float(machine.run(shlex.join(argv), timeout_s=LOOP_S).stdout)
    return float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def _up_digest() -> str:
    whole = hashlib.sha256()
    for name in UP_INPUTS:
        path = ROOT / name
        for found in [path] if path.is_file() else sorted(path.rglob("*")):
            if found.is_file() and found.suffix != ".pyc":
                whole.update(f"{found.relative_to(ROOT)}\0".encode() + found.read_bytes())
    return whole.hexdigest()[:16]


def main() -> int:
    """Return 0 if every step went well."""
    suite = os.environ.get("SUITE", "")
    if suite not in SUITES:
        print(f"make test-vm: SUITE={suite or '(unset)'}: must be one of {', '.join(SUITES)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("make test-vm: must be run as root: it makes a file system with Debian's owners", file=sys.stderr)
        return 2
    missing = install.missing_packages(PACKAGES)
    if missing:
        install.install_packages(missing)
    return 0 if Suite(suite).run() else 1


if __name__ == "__main__":
    sys.exit(main())
