"""A process's terminal: the pair of descriptors in place of pipes, its size, and how a program comes to own it."""

import fcntl
import os
import struct

#: Of ioctl_tty(2).
TCGETS, TCSETS, TIOCSCTTY, TIOCSWINSZ = 0x5401, 0x5402, 0x540E, 0x5414
#: The kernel's struct termios begins with the flags of input; IUTF8 has a letter of several bytes erased as one.
TERMIOS_BYTES = 36
IUTF8 = 0o40000
#: The character that ends the input of a terminal: VEOF, as a new terminal has it.
END_OF_INPUT = b"\x04"
#: The TERM of a program unless the client gives another.
TERM = b"xterm-256color"


class TerminalPipes:
    """A new pseudo-terminal: the master's end is ours (non-blocking), the other is all three of the program's."""

    __slots__ = ("stderr", "stdin", "stdout", "theirs")

    def __init__(self, size):
        """`size` is what `resize` takes. Raises OSError where no terminal is free."""
        self.stdout, slave = os.openpty()
        # Two descriptors of it, since input and output are waited for apart.
        self.stdin = os.dup(self.stdout)
        self.stderr = -1
        self.theirs = (slave, slave, slave)
        os.set_blocking(self.stdout, False)
        flags = bytearray(fcntl.ioctl(slave, TCGETS, bytes(TERMIOS_BYTES)))
        flags[:4] = (int.from_bytes(flags[:4], "little") | IUTF8).to_bytes(4, "little")
        fcntl.ioctl(slave, TCSETS, bytes(flags))
        resize(self.stdout, size)

    def close(self):
        """Close every end, where nothing was started."""
        self.close_theirs()
        for fd in (self.stdin, self.stdout):
            os.close(fd)

    def close_theirs(self):
        """Close the program's end in PID 1, after the fork."""
        os.close(self.theirs[0])


def resize(fd, size):
    """Set the size of a terminal, `b"COLS ROWS"`; the kernel tells the foreground programs by SIGWINCH."""
    cols, rows = map(int, size.split())
    fcntl.ioctl(fd, TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def become_controlling():
    """Make the terminal at descriptor 0 the controlling one of this process, which has just begun a session."""
    fcntl.ioctl(0, TIOCSCTTY, 0)
