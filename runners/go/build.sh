#!/bin/sh
# Go: compiler, linker, and the standard library compiled ahead. Runs inside the base, as root, with this folder as
# the working directory.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive

wanted=$(cat packages.txt)
apt-get update -q
# shellcheck disable=SC2086  # one word per package
apt-get install -q -y --no-install-recommends $wanted
# What a program is compiled in, and what it is compiled to: a mount of the sandbox's own.
install -d -m 0755 /opt/build /usr/local/lib/go /usr/local/bin
ln -s /usr/lib/go-1.24/bin/go /usr/lib/go-1.24/bin/gofmt /usr/local/bin/

# No run needs Go's own tests, the sources of its commands, or the tools that look at programs.
root=/usr/share/go-1.24
rm -rf $root/api $root/doc $root/misc $root/test $root/src/cmd
find $root/src \( -name testdata -type d -o -name '*_test.go' \) -prune -exec rm -rf {} +
cd /usr/lib/go-1.24/pkg/tool/linux_amd64
rm -f addr2line cgo covdata cover dist distpack doc fix nm objdump pack pprof preprofile test2json trace vet
cd - >/dev/null

# The cache is read by `go build` in runs, with the flags it is filled with here: see runner.toml.
export HOME= CGO_ENABLED=0 GOENV=off GOTOOLCHAIN=local GOTELEMETRY=off GOFLAGS=-buildvcs=false
export GOCACHE=/usr/local/lib/go/cache
GOGC=400 go build std
go list -export -f '{{if .Export}}packagefile {{.ImportPath}}={{.Export}}{{end}}' std >/usr/local/lib/go/importcfg
go build -trimpath -ldflags='-s -w' -o /usr/local/lib/go/gobuild gobuild/main.go
chmod -R a+rX,go-w /usr/local/lib/go

# As a run would, by both ways.
mkdir -p /tmp/direct /tmp/module
printf 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(6 * 7) }\n' | tee /tmp/direct/main.go >/tmp/module/main.go
printf 'module example\n\ngo 1.24\n' >/tmp/module/go.mod
for way in direct module; do
    (cd /tmp/$way && /usr/local/lib/go/gobuild main.go /tmp/$way/program)
    test "$(/tmp/$way/program)" = 42
done
# `go build` notes here when it has cleaned the cache, which it does once a day. Nothing of an image can be written.
ln -sf /opt/build/trim.txt /usr/local/lib/go/cache/trim.txt
rm -rf /opt/build/*
sh ./tidy.sh

if [ -d /run/build ]; then
    echo "go $(sed 's/^go//;q' /usr/lib/go-1.24/VERSION)" >/run/build/packages
fi
