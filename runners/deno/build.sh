#!/bin/sh
# Deno. Runs inside the base, as root, with this folder as the working directory.
#
# Beside it lies `site/`, what pip on the host made of requirements.lock (it checked every hash):
#   pip install --require-hashes --no-deps --no-compile --target site --platform ... -r requirements.lock
set -eu
umask 022

install -d -m 0755 /usr/local/bin
install -m 0755 site/bin/deno /usr/local/bin/deno

export DENO_DIR=/tmp/deno
test "$(deno eval 'const n = 1 + 1; console.log(n)')" = 2
rm -rf /tmp/deno
sh ./tidy.sh
