#!/bin/sh
# Start a Ruby that waits in hold.rb. It opens main.rb, and looks at its first byte, before it loads its own
# libraries, when the program is not there yet: so it is given another file of that name, in another directory,
# which hold.rb fills and leaves.
set -eu
mkdir -m 0700 /tmp/.hold
cd /tmp/.hold
echo >main.rb
exec env -u PWD -u OLDPWD ruby -r/opt/runyard/ruby/hold.rb -rrunyard main.rb
