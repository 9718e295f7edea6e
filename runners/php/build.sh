#!/bin/sh
# PHP, and the extension that lets it wait. Runs inside the base, as root, with this folder as the working directory.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive

wanted=$(cat packages.txt)
apt-get update -q
# shellcheck disable=SC2086  # one word per package
apt-get install -q -y --no-install-recommends $wanted

version=$(php -r 'echo PHP_MAJOR_VERSION, ".", PHP_MINOR_VERSION;')
install -m 0644 php.ini "/etc/php/$version/cli/php.ini"
# It caches compiled files between requests, of which there is one here.
rm -f "/etc/php/$version/cli/conf.d/"*-opcache.ini

# A compiler for one file, which does not stay. Of php-dev only the headers: it would bring all of autotools.
before=$(dpkg-query -W -f '${Package}\n')
apt-get install -q -y --no-install-recommends gcc libc6-dev
after=$(dpkg-query -W -f '${Package}\n')
headers=$(mktemp -d)
chmod 0755 "$headers"
(cd "$headers" && apt-get download -q "php$version-dev" && dpkg-deb -x ./*.deb .)
include=$(echo "$headers"/usr/include/php/2*)
install -d -m 0755 /usr/local/lib/php
gcc -O2 -D_GNU_SOURCE -Wall -Wextra -Werror -shared -fPIC -o /usr/local/lib/php/hold.so \
    -isystem "$include" -isystem "$include/main" -isystem "$include/Zend" -isystem "$include/TSRM" hold/hold.c
chmod 0644 /usr/local/lib/php/hold.so
rm -rf "$headers"
added=$(printf '%s\n%s\n' "$before" "$after" | sort | uniq -u)
# shellcheck disable=SC2086
dpkg --purge $added >/dev/null

test "$(php -r 'echo json_encode([mb_strtoupper("é"), bcmul("2", "1.5", 1), (string) gmp_pow(2, 70)]);')" = \
    '["\u00c9","3.0","1180591620717411303424"]'
test "$(php -r 'foreach (["dom", "pdo_sqlite", "zip", "ctype"] as $x) echo (int) extension_loaded($x);')" = 1111
# Loaded without anything to wait for, it does nothing and is not to be seen.
test "$(php -d extension=/usr/local/lib/php/hold.so -r 'echo (int) extension_loaded("runyard_hold");')" = 0
sh ./tidy.sh

if [ -d /run/build ]; then
    # shellcheck disable=SC2086
    dpkg-query -W -f '${Package} ${Version}\n' $wanted >/run/build/packages
fi
