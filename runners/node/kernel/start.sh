#!/bin/sh
# Start the kernel: `start.sh [LANGUAGE.cjs]`, by default of JavaScript. It has the requests and the replies at descriptors
# 8 and 9: Node closes those below 16 to its children when it starts.
exec 8<&0 9>&3 0</dev/null 3</dev/null
exec node --expose-internals "${0%/*}/kernel.cjs" "${1:-./language.cjs}"
