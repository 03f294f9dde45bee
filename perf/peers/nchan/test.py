"""Starts the peer as the harness does and speaks the dialect's exact bytes to it: `python3 test.py`."""

import signal
import socket
import unittest
from contextlib import ExitStack
from pathlib import Path

from peertest import CLOSE, LIMIT_S, PONG, TEXT, Peer, WebSocket, read_head, tick

FOLDER = Path(__file__).resolve().parent


class Publisher:
    """One keep-alive connection with pipelined POSTs."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self.reader = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def publish(self, ticks):
        """Sends all of (symbol, body) in one go and returns the status of each answer."""
        self.socket.sendall(
            b"".join(
                b"POST /pub?id=%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                % (symbol.encode(), len(body), body)
                for symbol, body in ticks
            )
        )
        return [self.answer() for _ in ticks]

    def answer(self):
        status, *headers = read_head(self.reader)
        length = next(int(line.split()[1]) for line in headers if line.startswith("Content-Length:"))
        self.reader.read(length)
        return int(status.split()[1])


class EventStream:
    """A client's side of an event stream whose bytes are seen as sent."""

    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self.reader = self.socket.makefile("rb")
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        self.head = read_head(self.reader)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def block(self):
        """The lines up to the next empty one."""
        return list(iter(lambda: self.reader.readline().rstrip(b"\n"), b""))


class Nchan(unittest.TestCase):
    def test_passes_ticks_on_unchanged_and_in_order(self):
        ticks = [(symbol, tick(symbol, seq)) for seq in range(5) for symbol in "AB"]
        with Peer(FOLDER) as peer, Publisher(peer.port) as publisher:
            self.assertEqual(publisher.publish([("A", tick("A", 99))]), [202], "nobody has subscribed")
            ten = ",".join("ABCDEFGHIJ")
            with WebSocket(peer.port, "/sub?id=A") as a, WebSocket(peer.port, "/sub?id=" + ten) as both:
                self.assertEqual(a.head[0], "HTTP/1.1 101 Switching Protocols")
                self.assertEqual(publisher.publish(ticks), [201] * 10)
                for _, body in ticks[::2]:
                    self.assertEqual(a.frame(), (TEXT, body))
                for _, body in ticks:
                    self.assertEqual(both.frame(), (TEXT, body))
                self.assertEqual(a.ping(), (PONG, b"ping"))
                self.assertEqual(both.ping(), (PONG, b"ping"))

                self.assertEqual(peer.end(), 0)
                self.assertEqual(a.frame(), (CLOSE, b"\x03\xe9410 Gone"))

    def test_passes_ticks_on_as_events(self):
        ticks = [(symbol, tick(symbol, seq)) for seq in range(5) for symbol in "AB"]
        with Peer(FOLDER) as peer, Publisher(peer.port) as publisher:
            with EventStream(peer.port, "/sse?id=A") as a, EventStream(peer.port, "/sse?id=A,B") as both:
                self.assertEqual(a.head[0], "HTTP/1.1 200 OK")
                self.assertIn("Content-Type: text/event-stream; charset=utf-8", a.head)
                self.assertFalse([line for line in a.head if line.startswith(("Transfer-Encoding", "Content-Length"))])
                self.assertEqual([a.block(), both.block()], [[b": hi"]] * 2)
                self.assertEqual(publisher.publish(ticks), [201] * 10)
                for stream, expected in (a, ticks[::2]), (both, ticks):
                    for _, body in expected:
                        message_id, data = stream.block()
                        self.assertTrue(message_id.startswith(b"id: "), message_id)
                        self.assertEqual(data, b"data: " + body)

    def test_serves_255_symbols_to_one_and_pipelined_posts_to_all(self):
        symbols = [f"S{i:04}" for i in range(255)]
        ticks = [(symbol, tick(symbol, seq)) for seq in range(20) for symbol in symbols]
        with Peer(FOLDER) as peer, Publisher(peer.port) as publisher:
            with WebSocket(peer.port, "/sub?id=" + ",".join(symbols)) as everything:
                for begin in range(0, len(ticks), 50):
                    self.assertEqual(publisher.publish(ticks[begin : begin + 50]), [201] * 50)
                for _, body in ticks:
                    self.assertEqual(everything.frame(), (TEXT, body))
                self.assertEqual(everything.ping(), (PONG, b"ping"))

    def test_serves_1000_connections(self):
        with Peer(FOLDER) as peer, Publisher(peer.port) as publisher, ExitStack() as stack:
            subscribers = [stack.enter_context(WebSocket(peer.port, "/sub?id=A")) for _ in range(1000)]
            publisher.publish([("A", tick("A", 1))])
            for subscriber in subscribers:
                self.assertEqual(subscriber.frame(), (TEXT, tick("A", 1)))
            self.assertEqual(peer.end(), 0)

    def test_nothing_outlives_a_killed_master(self):
        with Peer(FOLDER) as peer:
            self.assertGreaterEqual(len(peer.tree()), 3, "master, worker, guard")
            self.assertEqual(peer.end(signal.SIGKILL), -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
