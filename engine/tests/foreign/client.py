#!/usr/bin/env python3
"""A client by the PyPI package `websockets`, as it comes.

usage: client.py URL SUBPROTOCOL CAPTURE

The token is in TICKWIRE_TOKEN and goes into the Authorization header. Lines of stdin are sent as
they are; `close` closes with 1000. Prints every text message, a line each, then
{"closed": code}; binary messages are appended to CAPTURE, each behind its length (u32,
little-endian).
"""

import asyncio
import json
import os
import struct
import sys

from websockets.asyncio.client import connect


async def speak(socket):
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if line == "close":
            await socket.close(1000)
            return
        await socket.send(line)


async def main(url, subprotocol, capture):
    headers = {"Authorization": f"Bearer {os.environ['TICKWIRE_TOKEN']}"}
    async with connect(url, additional_headers=headers, subprotocols=[subprotocol]) as socket:
        assert socket.subprotocol == subprotocol
        speaker = asyncio.create_task(speak(socket))
        with open(capture, "ab") as file:
            async for message in socket:
                if isinstance(message, str):
                    print(message, flush=True)
                else:
                    file.write(struct.pack("<I", len(message)) + message)
                    file.flush()
        print(json.dumps({"closed": socket.close_code}), flush=True)
        speaker.cancel()
    # The thread that waits for stdin would hold the process up.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
