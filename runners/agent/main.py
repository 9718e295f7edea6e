"""Start the agent as PID 1 where the interpreter is not the program's own (`python3 -I -S main.py MODE ...`)."""

import sys

sys.path.insert(0, "/opt/runyard")

from agent.pid1 import serve

serve(sys.argv[1], [os_argument.encode() for os_argument in sys.argv[2:]])
