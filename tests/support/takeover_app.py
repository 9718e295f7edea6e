"""The application with one more route, whose handler takes its connection over."""

from __future__ import annotations

import threading

from flask import Response, request

from api.app import create_app
from api.http.takeover import TAKE_OVER_KEY


def make():
    """Return the application, with one more route."""
    app = create_app()

    def echo(sock, pending):
        sock.settimeout(10)
        with sock:
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + pending)
            while data := sock.recv(1000):
                sock.sendall(data.upper())

    @app.get("/echo")
    def taken() -> Response:
        sock, pending = request.environ[TAKE_OVER_KEY]()
        threading.Thread(target=echo, args=(sock, pending)).start()
        return Response()

    return app
