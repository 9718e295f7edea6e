"""Be the starter of a session: `python3 -I -S starter_main.py`, see `starter.py`."""

import sys

sys.path.insert(0, "/opt/runyard")

from agent.session.starter import serve

serve()
