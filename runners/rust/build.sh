#!/bin/sh
# Rust: rustc, its standard library, LLVM's linker under gcc's driver, and cargo, which builds layers of packages. Runs
# inside the base, as root, with this folder as the working directory.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive

wanted=$(cat packages.txt)
apt-get update -q
# shellcheck disable=SC2086  # one word per package
apt-get install -q -y --no-install-recommends $wanted
# What a program is compiled in, and what it is compiled to: a mount of the sandbox's own.
install -d -m 0755 /opt/build
# Where the layer of a run with packages has the arguments by which rustc finds them: without one there are none.
install -d -m 0755 /opt/packages/rust
: >/opt/packages/rust/arguments

# gcc only calls the linker here: its compilers, headers and sanitizers are a third of what was installed.
rm -f /usr/libexec/gcc/x86_64-linux-gnu/14/cc1 /usr/libexec/gcc/x86_64-linux-gnu/14/lto1
rm -f /usr/bin/x86_64-linux-gnu-lto-dump* /usr/bin/rustdoc /usr/bin/rust-gdb /usr/bin/rust-lldb
rm -rf /usr/include /usr/lib/gcc/x86_64-linux-gnu/14/include
for name in asan hwasan lsan tsan ubsan; do
    rm -f /usr/lib/x86_64-linux-gnu/lib$name.* /usr/lib/gcc/x86_64-linux-gnu/14/lib$name*
done
rm -f /usr/lib/x86_64-linux-gnu/libgprofng.*
# The library's debugging information would be linked into every program, several MB of it.
strip --strip-debug --preserve-dates /usr/lib/rustlib/x86_64-unknown-linux-gnu/lib/*.rlib

# As a run would: the same command.
printf 'fn main() { println!("{}", 6 * 7) }\n' >/tmp/main.rs
rustc --edition=2021 --crate-type=bin -C link-arg=-fuse-ld=lld -o /tmp/main @/opt/packages/rust/arguments /tmp/main.rs
test "$(/tmp/main)" = 42
sh ./tidy.sh

if [ -d /run/build ]; then
    # shellcheck disable=SC2086
    dpkg-query -W -f '${Package} ${Version}\n' $wanted >/run/build/packages
fi
