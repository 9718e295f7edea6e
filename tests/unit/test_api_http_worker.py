"""What is changed of gunicorn's own ways."""

from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import SocketUnreader

from api.http_worker import read_bodies_by_pieces
from config.pieces import PIECE_BYTES


class Socket:
    """Gives whatever it is asked for, and remembers how much that was."""

    def __init__(self):
        self.asked = []

    def recv(self, size):
        self.asked.append(size)
        return bytes(size)


def test_a_body_is_read_by_pieces():
    read_bodies_by_pieces()
    sock = Socket()
    body = LengthReader(SocketUnreader(sock), 10 * PIECE_BYTES)
    assert len(body.read(5 * PIECE_BYTES)) == 5 * PIECE_BYTES
    assert set(sock.asked) == {PIECE_BYTES}
