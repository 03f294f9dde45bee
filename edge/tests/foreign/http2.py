"""Opens many event streams over one HTTP/2 connection (TLS with ALPN), and reads ticks from each.

usage: http2.py ORIGIN CA_FILE TOKEN STREAMS TICKS
"""

import asyncio
import json
import ssl
import sys

import httpx


async def read(client, origin, token, ticks):
    """Reads one stream until `ticks` live trades have come; returns the HTTP version."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{origin}/v1/sse?symbols=A&channels=trade"
    async with client.stream("GET", url, headers=headers, timeout=60) as response:
        assert response.status_code == 200, response.status_code
        last, seen = None, 0
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line.removeprefix("data: "))
            if event["type"] != "trade" or event.get("snapshot"):
                continue
            assert last is None or event["seq"] == last + 1, (last, event)
            last, seen = event["seq"], seen + 1
            if seen == ticks:
                return response.http_version


async def main(origin, ca_file, token, streams, ticks):
    context = ssl.create_default_context(cafile=ca_file)
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(http2=True, verify=context, limits=limits) as client:
        versions = await asyncio.gather(*(read(client, origin, token, ticks) for _ in range(streams)))
    print(json.dumps({"streams": len(versions), "versions": sorted(set(versions))}))


asyncio.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))
