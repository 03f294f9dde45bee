#!/usr/bin/env python3
"""Publishes bursts of trades that it numbers itself, until it is killed.

usage: burst.py URL SYMBOL EPOCH FIRST_SEQ

The token is in TICKWIRE_TOKEN. Prints the last seq of each burst once it is handed to the socket.
"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect

BURST = 50
# Some 10,000 ticks/s, which a debug build on a busy machine keeps up with.
PAUSE_S = 0.005


async def main(url, symbol, epoch, seq):
    headers = {"Authorization": f"Bearer {os.environ['TICKWIRE_TOKEN']}"}
    async with connect(url, additional_headers=headers, max_queue=None) as socket:
        while True:
            burst = range(seq, seq + BURST)
            await socket.send(
                json.dumps(
                    [
                        {"type": "trade", "symbol": symbol, "epoch": epoch, "seq": n, "price": str(n)}
                        for n in burst
                    ]
                )
            )
            seq = burst.stop
            print(seq - 1, flush=True)
            await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
