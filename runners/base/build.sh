#!/bin/sh
# Make Debian's own small root the base of every runner image. Runs inside it, as root, with this folder as
# the working directory. What it does is the same under chroot, buildah and Docker.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive

wanted=$(cat packages.txt)
# shellcheck disable=SC2086  # one word per package
if ! dpkg-query -W $wanted >/dev/null 2>&1; then
    apt-get update -q
    apt-get install -q -y --no-install-recommends $wanted
fi

# The one account of every sandbox: its uid inside the user namespace, its home the tmpfs /work.
grep -q '^runner:' /etc/group || echo 'runner:x:1000:' >>/etc/group
grep -q '^runner:' /etc/passwd || echo 'runner:x:1000:1000::/work:/bin/bash' >>/etc/passwd
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-

install -d -m 0755 /work /opt/runyard /etc/default
printf 'LANG=C.UTF-8\n' >/etc/default/locale
# Under Docker these three are mounts of the engine's own; in a chroot they are the image's.
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts 2>/dev/null || true
rm -f /etc/resolv.conf 2>/dev/null || true
printf 'sandbox\n' >/etc/hostname 2>/dev/null || true
rm -f /etc/machine-id /var/lib/dbus/machine-id

# The name that programs expect beside python3.
ln -sf python3 /usr/bin/python

# The language layers put their libraries here; left empty by Debian, it would only be one more directory to
# merge at every start of every interpreter.
rm -rf /usr/local/lib/python3.*

# Debian's is there to report crashes to a service that is not. A language may put one of its own into its layer;
# this one, being found first, would hide it.
rm -f /etc/python3*/sitecustomize.py /usr/lib/python3*/sitecustomize.py

sh ./tidy.sh
# A read-only root can keep no byte code, so it is written now. Unchecked: nothing in an image changes.
python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash /usr/lib/python3*
