"""What the tests of the peers from Debian share: a server started as the harness starts it, and a WebSocket whose frames are seen as sent.

Standard library only. `../nats/test.py` uses it too.
"""

import base64
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

LIMIT_S = 10

# First bytes of unfragmented frames: FIN and opcode.
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


def tick(symbol, seq):
    """One tick as the generator publishes it, to the byte."""
    return (
        f'{{"type":"trade","symbol":"{symbol}","epoch":1763776800000,"seq":{seq},'
        f'"ts":1763776800000123,"price":"187.23","size":"100","side":"buy"}}'
    ).encode()


class Peer:
    """The server of a folder, confined to one core; `with` ends it."""

    def __init__(self, folder):
        self.port = free_ports()
        self.workdir = tempfile.TemporaryDirectory()
        secret = Path(self.workdir.name, "secret.txt")
        secret.write_text("0123456789abcdef0123456789abcdef\n")
        rundir = Path(self.workdir.name, "run")
        rundir.mkdir()
        start = ["taskset", "-c", "0", folder / "start", "--port", str(self.port), "--secret", secret, "--workdir", rundir]
        self.process = subprocess.Popen(start)
        wait_until(lambda: accepts(self.port))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.workdir.cleanup()

    def tree(self):
        """The process ids of the server and of all that descends from it."""
        found, new = [], [self.process.pid]
        while new:
            found += new
            new = [pid for pid, parent in parents().items() if parent in new]
        return found

    def end(self, how=signal.SIGTERM):
        """Sends the signal, waits until nothing of the server is left, and returns its exit status."""
        tree = self.tree()
        self.process.send_signal(how)
        status = self.process.wait(LIMIT_S)
        wait_until(lambda: not set(tree) & set(parents()))
        return status


class WebSocket:
    """A client's side of a WebSocket; nothing of it is hidden: `frame` returns the first byte as it came."""

    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.head = read_head(self.reader)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def frame(self):
        """The next frame: its first byte (FIN, opcode) and its payload."""
        first, length = self.reader.read(2)
        assert length < 128, "a server must not mask"
        if length == 126:
            length = int.from_bytes(self.reader.read(2))
        elif length == 127:
            length = int.from_bytes(self.reader.read(8))
        return first, self.reader.read(length)

    def send(self, opcode, payload):
        assert len(payload) < 65536
        short = len(payload) < 126
        length = bytes([0x80 | len(payload)]) if short else bytes([0x80 | 126]) + len(payload).to_bytes(2)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def ping(self):
        """A WebSocket ping, and the frame that comes next: no other than its pong where nothing else is due."""
        self.send(PING & 15, b"ping")
        return self.frame()


def read_head(reader):
    """The lines of an HTTP head, up to the empty one."""
    lines = []
    while (line := reader.readline()) not in (b"\r\n", b""):
        lines.append(line.rstrip().decode())
    return lines


def free_ports():
    """A port whose successor is free as well."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except ConnectionRefusedError:
        return False


def parents():
    """The parent of every process that has not ended."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found[int(stat.parent.name)] = int(parent)
    return found


def wait_until(holds):
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, "not within the limit of time"
        time.sleep(0.01)
