"""Makes the disk of a stock Debian: Debian's own packages, a user's key for ssh, and nothing of this project."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ops.images.debian import HOST_CERTIFICATES, KEYRINGS, acquire_options, host_sources

SUITES = ("bookworm", "trixie")
PACKAGES = (
    "linux-image-amd64",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "apparmor",
    "make",
    "git",
    "python3",
    "curl",
    "ca-certificates",
)
DISK_GB = 24
#: Addresses of QEMU's user network (qemu-system(1), -netdev user).
NETWORK = """\
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
DNS=10.0.2.3
"""
#: Where certificates of the host's owner lie on Debian; update-ca-certificates(8) reads the same place in the guest.
LOCAL_CERTIFICATES = Path("/usr/local/share/ca-certificates")


@dataclass(frozen=True, slots=True)
class Disk:
    """A bootable disk: a raw ext4 image, the kernel and the initial RAM disk that boot it, a key that opens it."""

    image: Path
    kernel: Path
    initrd: Path
    ssh_key: Path

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """Name the files of a disk that is kept in `folder`."""
        return cls(folder / "disk.ext4", folder / "vmlinuz", folder / "initrd.img", folder / "ssh_key")


def digest(suite: str) -> str:
    """Return a hash over all that decides what a disk of `suite` is made of, but for the archive's own changes."""
    text = "\n".join((suite, host_sources(suite), *acquire_options(), inspect.getsource(sys.modules[__name__])))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_disk(suite: str, folder: Path) -> Disk:
    """Make a disk of `suite` in `folder`, which must not exist. Raises CalledProcessError with the tool's words."""
    scratch = folder.with_name(folder.name + ".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    made = Disk.of(scratch)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made.ssh_key)], check=True)
    root = scratch / "root"
    _bootstrap(suite, root)
    _configure(root, made.ssh_key.with_suffix(".pub").read_text())
    shutil.copyfile(next(root.glob("boot/vmlinuz-*")), made.kernel)
    shutil.copyfile(next(root.glob("boot/initrd.img-*")), made.initrd)
    size = f"{DISK_GB}G"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(made.image), size], check=True)
    shutil.rmtree(root)
    scratch.rename(folder)
    return Disk.of(folder)


def _bootstrap(suite: str, root: Path) -> None:
    keyring = next(path for path in KEYRINGS if path.exists())
    listing = root.parent / "sources.list"
    listing.write_text(host_sources(suite))
    argv = ["mmdebstrap", "--mode=root", "--variant=important", "--format=directory"]
    argv += [f"--include={','.join(PACKAGES)}", f"--keyring={keyring}"]
    argv += [f"--aptopt={line}" for line in acquire_options()]
    subprocess.run([*argv, suite, str(root), str(listing)], check=True)


def _configure(root: Path, public_key: str) -> None:
    """Give the guest a network, a name, an ssh key, and this host's way to its archives."""
    (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n")
    (root / "etc/hostname").write_text("stock\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost stock\n::1 localhost\n")
    resolv = root / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.write_text("nameserver 10.0.2.3\n")
    (root / "etc/systemd/network/eth0.network").write_text(NETWORK)
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / "authorized_keys").write_text(public_key)
    for path in sorted(LOCAL_CERTIFICATES.glob("*.crt")):
        shutil.copy(path, root / LOCAL_CERTIFICATES.relative_to("/"))
    for argv in (["systemctl", "enable", "systemd-networkd"], ["update-ca-certificates"]):
        subprocess.run(["chroot", str(root), *argv], check=True, capture_output=True)
    # pip brings certificates of its own and must be told of the system's.
    if HOST_CERTIFICATES.exists() and any(LOCAL_CERTIFICATES.glob("*.crt")):
        (root / "etc/pip.conf").write_text(f"[global]\ncert = {HOST_CERTIFICATES}\n")
