#!/bin/sh
# Ruby. Runs inside the base, as root, with this folder as the working directory.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive

wanted=$(cat packages.txt)
apt-get update -q
# shellcheck disable=SC2086  # one word per package
apt-get install -q -y --no-install-recommends $wanted

test "$(ruby -rjson -rcsv -rbigdecimal -ropenssl -e 'puts JSON.generate([CSV.parse("a,b"), BigDecimal("1.5") * 2])')" = \
    '[[["a","b"]],"0.3e1"]'
sh ./tidy.sh

if [ -d /run/build ]; then
    # shellcheck disable=SC2086
    dpkg-query -W -f '${Package} ${Version}\n' $wanted libruby >/run/build/packages
fi
