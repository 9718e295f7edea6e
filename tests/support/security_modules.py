"""Which of the kernel's security modules this machine has: the build machine has no AppArmor, stock machines do."""

from __future__ import annotations

from pathlib import Path

APPARMOR = Path("/sys/kernel/security/apparmor/profiles").exists()
