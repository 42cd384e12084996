"""`fusecli` for a shell without the price of imports: a server that forks for each command.

    with served.program(Path("bin/fusecli"), variables):
        ...  # bin/fusecli now takes any command line

The program that is written hands its arguments, folder, variables and streams to the server, in
which torch and fusecli are loaded already, and ends with the exit code of the command.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAM = f"""#!{sys.executable} -ES
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({{address!r}})
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [asked[:1]], [0, 1, 2])
server.sendall(asked[1:])
server.shutdown(socket.SHUT_WR)
sys.exit((server.recv(1) or b"F")[0])
"""


@contextmanager
def program(path: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Write a program `path` that does what `python -m fusecli` does under these variables."""
    # the address of a socket has room for a hundred characters only
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        address = f"{folder}/socket"
        server = subprocess.Popen(
            [sys.executable, __file__, address], env=dict(variables), stdout=subprocess.PIPE
        )
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"ready\n"
            path.write_text(PROGRAM.format(address=address), "utf-8")
            path.chmod(0o755)
            yield
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


def serve(address: str) -> None:
    """Answer until killed."""
    # all that a fork would otherwise import again; no thread may run yet
    import cv2  # noqa: F401
    import torch  # noqa: F401

    from fusecli import checkpoint  # noqa: F401
    from fusecli.evaluation import scoring  # noqa: F401
    from fusecli.fusion import run as folder  # noqa: F401
    from fusecli.metrics import select
    from fusecli.registration import item as registering  # noqa: F401

    select("all", ("ir", "vis", "fused", "reference"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            answer(client)
        client.close()


def answer(client: socket.socket) -> None:
    """Become the process that the client asks for, and end."""
    from fusecli.cli import main

    code = 70
    try:
        asked, streams, _, _ = socket.recv_fds(client, 1, 3)
        while part := client.recv(65536):
            asked += part
        arguments, place, variables = json.loads(asked)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(place)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv[1:] = arguments
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        client.sendall(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
