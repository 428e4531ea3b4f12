"""`level5` commands as an operator runs them in a second terminal, from a process that need not be started anew for each."""

import atexit
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

COMMAND_SECONDS_MAX = 120.0
SERVER = Path(__file__).with_name("command_server.py")


def run_command(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one command to its end and return its code and what it wrote.

    Raises:
        TimeoutError: it did not end in time.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(COMMAND_SECONDS_MAX)
        connection.connect(start_commands())
        request = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode() + b"\n"
        sent = socket.send_fds(connection, [request], [output.fileno(), error.fileno()])
        connection.sendall(request[sent:])
        told = connection.recv(16)
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(["level5", *arguments], int(told or -1), *texts)


@cache
def start_commands() -> str:
    """Start the server and return where it listens: an address that no file stands for, so that nothing stays behind. Forks of this process share it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")  # Linux picks an abstract name
        listening.listen()
        process = subprocess.Popen([sys.executable, "-P", str(SERVER), str(listening.fileno())], stdin=subprocess.PIPE, pass_fds=[listening.fileno()])
        atexit.register(process.communicate)  # its input ends, and so does it
        address: str = listening.getsockname()
    return address
