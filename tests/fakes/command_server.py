"""A process that has imported `level5` once and forks for each command, as a second terminal would start it.

Starting Python and importing everything takes a command most of a second, and the tests run hundreds of them. What
runs here is the command itself, in a process of its own, with the arguments, environment and output it is given.
Run as a script: it listens on the socket it inherited until its standard input ends.
"""

import array
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

REQUEST_BYTES_MAX = 1024 * 1024


def serve(listening: socket.socket) -> None:
    """Fork for every connection until whoever started this is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: each tells its code itself
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(connection)
        connection.close()


def _run(connection: socket.socket) -> None:
    request, output, error = _receive(connection)
    os.environ.clear()
    os.environ.update(request["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, own in ((nothing, 0), (output, 1), (error, 2)):
        os.dup2(given, own)
    code = _command(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(code).encode())
    os._exit(code)


def _command(arguments: list[str]) -> int:
    from cli.main import main

    sys.argv = ["level5", *arguments]
    try:
        main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _receive(connection: socket.socket) -> tuple[dict[str, Any], int, int]:
    files = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(REQUEST_BYTES_MAX, socket.CMSG_LEN(2 * files.itemsize))
    for _, _, given in ancillary:
        files.frombytes(given)
    while not data.endswith(b"\n"):
        data += connection.recv(REQUEST_BYTES_MAX)
    return json.loads(data), files[0], files[1]


if __name__ == "__main__":
    import cli.main  # noqa: F401  # what every command needs, before the first fork

    serve(socket.socket(fileno=int(sys.argv[1])))
