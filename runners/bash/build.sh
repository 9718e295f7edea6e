#!/bin/sh
# The shell and the tools that scripts expect. Runs inside the base, as root, with this folder as the working
# directory.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive

wanted=$(cat packages.txt)
apt-get update -q
# shellcheck disable=SC2086  # one word per package
apt-get install -q -y --no-install-recommends $wanted

test "$(echo '{"a": [1, 2]}' | jq -c .a)" = '[1,2]'
test "$(echo 'a b' | awk '{ print $2 }')" = b
test "$(echo '2 ^ 64' | bc)" = 18446744073709551616
sh ./tidy.sh

if [ -d /run/build ]; then
    # shellcheck disable=SC2086
    dpkg-query -W -f '${Package} ${Version}\n' bash coreutils grep $wanted >/run/build/packages
fi
