"""The frame protocol, this end: one type byte, two bytes of channel id, four of length (big-endian), the payload.

The other end is `sandbox/frames.py`; a test holds the two lists together.
"""

#: The host refuses an agent that has another. Increase both with every change of the frames or their payloads.
PROTOCOL_VERSION = 6
#: A bit set; no bit has a meaning yet.
CAPABILITIES = 0
HEADER = 7
#: The channel of a single-use run, the only one that is open until the sandbox becomes a session's.
RUN_CHANNEL = 0
MAX_PAYLOAD = 1 << 20
#: The bytes of output that a new channel of a session may send before the host has granted more (CREDIT).
INITIAL_CREDIT = 256 * 1024
#: The channels from here on are connections of the proxy, which the agent opens.
FIRST_NETWORK_CHANNEL = 0x8000
LAST_CHANNEL = 0xFFFF

# Host to agent.
FILE = b"F"  # pack([path, first bytes]), with a third part if it is a program: begin a file beneath /work
MORE = b"M"  # more bytes of the file begun last
JOB = b"J"  # pack(...): see agent/job.py
STDIN = b"I"
STDIN_END = b"i"
COMPILE = b"B"  # start the compiler that the job names; GO follows when the host has received its end
GO = b"G"
KILL = b"K"
COLLECT = b"C"  # the host has lent memory: send the artifacts
SESSION = b"N"  # pack([environment]): be a session's from here on; see agent/session
OPEN = b"o"  # on a new channel of a session, pack([kind, ...]): a process, a kernel, a file operation or the proxy
CREDIT = b"c"  # decimal: so many more bytes of output may be sent on this channel
NETWORK = b"e"  # have the proxy listen on the loopback; see agent/network.py
SIGNAL = b"s"  # decimal: send this signal to the main process of this channel
RESIZE = b"z"  # b"COLS ROWS": the size of the terminal of this channel's process

# Agent to host.
READY = b"R"  # see hello()
STDIN_TAKEN = b"W"  # decimal: so many bytes of stdin have gone to the program
STDOUT = b"O"
STDERR = b"E"
REPLY = b"V"  # bytes of the replies of this channel's kernel; they count as output
COMPILED = b"P"  # pack([kind, number, stdout truncated, stderr truncated]): the compiler has ended
EXIT = b"X"  # pack([kind, number, stdout truncated, stderr truncated, has outputs])
ARTIFACT = b"A"  # pack([path, size]): begin an artifact
DATA = b"D"  # bytes of the artifact begun last
SKIPPED = b"S"  # pack([path, reason])
END = b"Z"  # decimal: how many were skipped in all
IN_SESSION = b"Y"  # the answer to SESSION
STARTED = b"T"  # decimal: the pid of the channel's main process
CONNECTED = b"L"  # on a new channel: a program has connected to the proxy
DATA_END = b"U"  # the program sends no more on this channel's connection
CLOSED = b"Q"  # nothing of the channel is alive, and its number is free again


def head(kind, size, channel=RUN_CHANNEL):
    """Return what comes before a payload of `size` bytes."""
    return kind + (channel << 32 | size).to_bytes(6, "big")


def frame(kind, payload=b""):
    """Return one frame as bytes."""
    return head(kind, len(payload)) + payload


def hello(landlock_abi):
    """Return the payload of READY. `landlock_abi` is the active version of Landlock, 0 for none."""
    return PROTOCOL_VERSION.to_bytes(2, "big") + CAPABILITIES.to_bytes(4, "big") + landlock_abi.to_bytes(2, "big")


def pack(parts):
    """Return a list of byte strings as one: each preceded by its length in four bytes."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def unpack(data):
    """Return the list that `pack` packed. Raises ValueError when the lengths do not add up."""
    parts = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise ValueError("packed list is cut short")
        parts.append(bytes(data[at + 4 : end]))
        at = end
    return parts


def take_channel_frames(buffer):
    """Remove and return the complete frames at the head of `buffer` as (channel, kind, payload), on any channel."""
    frames = []
    at = 0
    while len(buffer) - at >= HEADER:
        channel_and_length = int.from_bytes(buffer[at + 1 : at + HEADER], "big")
        length = channel_and_length & 0xFFFFFFFF
        if length > MAX_PAYLOAD:
            raise ValueError("frame too long")
        end = at + HEADER + length
        if len(buffer) < end:
            break
        frames.append((channel_and_length >> 32, bytes(buffer[at : at + 1]), bytes(buffer[at + HEADER : end])))
        at = end
    del buffer[:at]
    return frames


def take_frames(buffer):
    """Remove and return the complete frames at the head of `buffer` (a bytearray) as (kind, payload)."""
    frames = []
    at = 0
    while len(buffer) - at >= HEADER:
        # Channel and length as one number, because a slice costs more than the arithmetic.
        channel_and_length = int.from_bytes(buffer[at + 1 : at + HEADER], "big")
        length = channel_and_length & 0xFFFFFFFF
        if channel_and_length >> 32 != RUN_CHANNEL:
            raise ValueError("frame on a channel that is not open")
        if length > MAX_PAYLOAD:
            raise ValueError("frame too long")
        end = at + HEADER + length
        if len(buffer) < end:
            break
        frames.append((bytes(buffer[at : at + 1]), bytes(buffer[at + HEADER : end])))
        at = end
    del buffer[:at]
    return frames
