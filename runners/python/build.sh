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

# Scripts of the libraries name the host's Python in their first line; their own tests are a tenth of the
# bytes. numpy's stay: numpy.testing imports from them.
rm -rf "$site/bin" "$site/share"
for library in matplotlib mpl_toolkits networkx pandas psutil pyarrow scipy sklearn statsmodels sympy; do
    find "$site/$library" -depth -type d -name tests -exec rm -rf {} +
done

# In a session whose network permits it, `pip install` goes to ~/.local by itself: nothing else can be written. That
# Debian's own Python is managed by apt is of no use to know there.
printf '[global]\ndisable-pip-version-check = true\nno-cache-dir = true\nbreak-system-packages = true\n' >/etc/pip.conf

# C++ headers of a library that nothing here can compile against.
rm -rf "$site/pyarrow/include"

# pyarrow's allocator would start a thread when it is imported, which pandas does. A process with two threads cannot
# be a template, and a sandbox has few processors to give back memory on.
ln -s background_thread:false /etc/je_arrow_malloc.conf

python3 fonts.py "$site"
python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash "$site"
# What cannot be imported must fail here, not in somebody's run.
python3 -W error::UserWarning check.py
# And what would start a thread, in a template. numpy's own are ended before a fork, these count without them.
OPENBLAS_NUM_THREADS=1 python3 -c '
import os, numpy, pandas, matplotlib.pyplot
assert len(os.listdir("/proc/self/task")) == 1, "an import has started a thread"'
sh ./tidy.sh

if [ -d /run/build ]; then
    python3 -c '
from importlib.metadata import distributions
for name, version in sorted({(d.name, d.version) for d in distributions()}, key=lambda d: d[0].lower()):
    print(name, version)' >/run/build/packages
fi
