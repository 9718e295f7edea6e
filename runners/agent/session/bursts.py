"""Short rests in reading a task that writes in many small pieces, so that these travel together.

Each read costs a frame, and a turn of PID 1 and of the worker: twenty thousand lines read one by one cost half a
second of processor time. A line by itself is passed on at once; only a task that goes on and on is read a little
later, and never by more than MAX_REST_S.
"""

#: Small reads that are made at once, and the seconds after which one more may be.
MOST_READS = 8
REFILL_S = 0.005
MIN_REST_S, MAX_REST_S = 0.001, 0.01
#: A read from here on is no small one.
LARGE_BYTES = 4096
#: The size of a pipe: a program that fills it is held up by a rest.
FULL_BYTES = 65536


class Burst:
    """The small reads of one task that may be made at once, and the rest that follows them."""

    __slots__ = ("at", "has_rested", "left", "rest_s")

    def __init__(self):
        self.left = MOST_READS
        self.at = 0.0
        self.rest_s = MAX_REST_S
        self.has_rested = False

    def note(self, size, now):
        """Note a read. Returns for how many seconds the task is not to be read from."""
        if self.has_rested:
            held_up = size >= FULL_BYTES
            self.rest_s = max(MIN_REST_S, self.rest_s / 2) if held_up else min(MAX_REST_S, 2 * self.rest_s)
            self.has_rested = False
        self.left = min(MOST_READS, self.left + (now - self.at) / REFILL_S)
        self.at = now
        if size >= LARGE_BYTES:
            return 0.0
        if self.left >= 1:
            self.left -= 1
            return 0.0
        self.has_rested = True
        return self.rest_s
