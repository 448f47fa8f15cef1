"""Serves a folder by an application server of PyPI's.

``python web_applications.py NAME FOLDER`` prints the port that the kernel chose, then serves until it is killed.
"""

from __future__ import annotations

import asyncio
import http.server
import socket
import sys
from functools import partial


def tornado(listener: socket.socket, folder: str) -> None:
    from tornado.httpserver import HTTPServer
    from tornado.web import Application, StaticFileHandler

    async def serve() -> None:
        server = HTTPServer(Application([("/(.*)", StaticFileHandler, {"path": folder})]))
        listener.setblocking(False)
        server.add_socket(listener)
        await asyncio.Event().wait()

    asyncio.run(serve())


def aiohttp(listener: socket.socket, folder: str) -> None:
    from aiohttp import web

    app = web.Application()
    app.router.add_static("/", folder)
    web.run_app(app, sock=listener, print=None, access_log=None)


def starlette(listener: socket.socket, folder: str) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def flask(listener: socket.socket, folder: str) -> None:
    import waitress
    from flask import Flask

    waitress.serve(Flask(__name__, static_folder=folder, static_url_path=""), sockets=[listener])


def standard_library(listener: socket.socket, folder: str) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


SERVERS = {
    "tornado": tornado,
    "aiohttp": aiohttp,
    "starlette": starlette,
    "flask": flask,
    "http.server": standard_library,
}

if __name__ == "__main__":
    bound = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(bound.getsockname()[1], flush=True)
    SERVERS[sys.argv[1]](bound, sys.argv[2])
