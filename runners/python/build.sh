#!/bin/sh
# Python's libraries. Runs inside the base, as root, with this folder as the working directory.
#
# Beside it lies `site/`, what pip on the host made of requirements.lock (it checked every hash):
#   pip install --require-hashes --no-deps --no-compile --target site --platform ... -r requirements.lock
set -eu
umask 022

site=$(python3 -c 'import sys; print("/usr/local/lib/python%d.%d/dist-packages" % sys.version_info[:2])')
install -d -m 0755 "$site"
cp -a --no-preserve=ownership site/. "$site/"
# Only the interpreter that waits as PID 1 of a sandbox takes notice of this (see the file).
install -m 0644 warm/sitecustomize.py "$site/sitecustomize.py"

# Scripts of the libraries name the host's Python in their first line; their own tests are a fifth of the
# bytes. numpy's stay: numpy.testing imports from them.
rm -rf "$site/bin" "$site/share"
for library in matplotlib mpl_toolkits pandas scipy sklearn sympy; do
    find "$site/$library" -depth -type d -name tests -exec rm -rf {} +
done

python3 fonts.py "$site"
python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash "$site"
# What cannot be imported must fail here, not in somebody's run.
python3 -W error::UserWarning check.py
sh ./tidy.sh

if [ -d /run/build ]; then
    python3 -c '
from importlib.metadata import distributions
for name, version in sorted({(d.name, d.version) for d in distributions()}, key=lambda d: d[0].lower()):
    print(name, version)' >/run/build/packages
fi
