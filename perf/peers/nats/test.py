"""Starts the peer as the harness does and speaks the dialect's exact bytes to it: `python3 test.py`."""

import signal
import socket
import sys
import unittest
from contextlib import ExitStack
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent / "nchan"))
from peertest import BINARY, LIMIT_S, PONG, Peer, WebSocket, accepts, tick, wait_until  # noqa: E402

CONNECT = b'CONNECT {"verbose":false,"pedantic":false}\r\n'


class Subscriber(WebSocket):
    """Subscribes, with the symbol's place in `symbols` as its sid, and has the PONG when made."""

    def __init__(self, port, symbols):
        super().__init__(port, "/")
        self.received = b""
        first, info = self.frame()
        assert first == BINARY and info.startswith(b"INFO {") and info.endswith(b"} \r\n"), info
        subs = [f"SUB ticks.{symbol} {sid}\r\n".encode() for sid, symbol in enumerate(symbols)]
        self.send(BINARY & 15, CONNECT + b"".join(subs) + b"PING\r\n")
        assert self.take(6) == b"PONG\r\n"

    def take(self, count):
        """The next bytes of the protocol, wherever frames end."""
        while len(self.received) < count:
            first, payload = self.frame()
            assert first == BINARY, first
            self.received += payload
        taken, self.received = self.received[:count], self.received[count:]
        return taken


class Publisher:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port + 1), LIMIT_S)
        self.reader = self.socket.makefile("rb")
        assert self.reader.readline().startswith(b"INFO {")
        self.socket.sendall(CONNECT)
        self.publish([])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def publish(self, ticks):
        """Sends all of (symbol, body) in one go and waits until the server has taken them."""
        lines = [b"PUB ticks.%s %d\r\n%s\r\n" % (symbol.encode(), len(body), body) for symbol, body in ticks]
        self.socket.sendall(b"".join(lines) + b"PING\r\n")
        while (line := self.reader.readline()) == b"PING\r\n":
            self.socket.sendall(b"PONG\r\n")
        assert line == b"PONG\r\n", line


def message(symbol, sid, body):
    return b"MSG ticks.%s %d %d\r\n%s\r\n" % (symbol.encode(), sid, len(body), body)


class Nats(unittest.TestCase):
    def peer(self):
        """A peer of which both ports accept: the one for plain NATS opens last."""
        peer = Peer(FOLDER)
        wait_until(lambda: accepts(peer.port + 1))
        return peer

    def test_passes_ticks_on_unchanged_and_in_order(self):
        ticks = [(symbol, tick(symbol, seq)) for seq in range(5) for symbol in "AB"]
        symbols = "ABCDEFGHIJ"
        with self.peer() as peer, Publisher(peer.port) as publisher:
            publisher.publish([("A", tick("A", 99))])
            with Subscriber(peer.port, "A") as a, Subscriber(peer.port, symbols) as both:
                self.assertEqual(a.head[0], "HTTP/1.1 101 Switching Protocols")
                publisher.publish(ticks)
                of_a = b"".join(message("A", 0, body) for _, body in ticks[::2])
                self.assertEqual(a.take(len(of_a)), of_a)
                of_both = b"".join(message(symbol, symbols.index(symbol), body) for symbol, body in ticks)
                self.assertEqual(both.take(len(of_both)), of_both)
                self.assertEqual(a.ping(), (PONG, b"ping"))
                self.assertEqual(both.ping(), (PONG, b"ping"))
            # nats-server answers SIGTERM with status 1, also where it ends in good order.
            self.assertEqual(peer.end(), 1)

    def test_serves_1000_symbols_to_one(self):
        symbols = [f"S{i:04}" for i in range(1000)]
        ticks = [(symbol, tick(symbol, seq)) for seq in range(5) for symbol in symbols]
        expected = b"".join(message(symbol, int(symbol[1:]), body) for symbol, body in ticks)
        with self.peer() as peer, Publisher(peer.port) as publisher, Subscriber(peer.port, symbols) as everything:
            publisher.publish(ticks)
            self.assertEqual(everything.take(len(expected)), expected)
            self.assertEqual(everything.ping(), (PONG, b"ping"))

    def test_serves_1000_connections(self):
        expected = message("A", 0, tick("A", 1))
        with self.peer() as peer, Publisher(peer.port) as publisher, ExitStack() as stack:
            subscribers = [stack.enter_context(Subscriber(peer.port, "A")) for _ in range(1000)]
            publisher.publish([("A", tick("A", 1))])
            for subscriber in subscribers:
                # The server asks each client for a sign of life early on.
                if (begin := subscriber.take(6)) == b"PING\r\n":
                    begin = subscriber.take(6)
                self.assertEqual(begin + subscriber.take(len(expected) - 6), expected)
            self.assertEqual(peer.end(), 1)

    def test_nothing_outlives_a_killed_server(self):
        with self.peer() as peer:
            self.assertEqual(peer.end(signal.SIGKILL), -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
