#!/usr/bin/env python3
"""Decodes tickwire's binary WebSocket messages by the published SBE schema alone.

usage: sbe_decode.py SCHEMA MESSAGES

MESSAGES holds one WebSocket message after the other, each behind its length (u32, little-endian).
Prints one JSON object a line for each SBE message: `template` and the fields of the schema, but
for what is reserved. Nulls are null, and mantissas come as exact decimal text.

All knowledge of the format comes from the schema, by the PyPI package `sbe` (requirements.txt).
"""

import json
import struct
import sys

import sbe

# Which exponent belongs to which mantissa is the one thing that SBE leaves to prose.
EXPONENTS = {
    "price": "priceExp",
    "bid": "priceExp",
    "ask": "priceExp",
    "size": "sizeExp",
    "bidSize": "sizeExp",
    "askSize": "sizeExp",
}


def decimal(mantissa, exponent):
    """The exact text of mantissa x 10^exponent, with -exponent digits behind the point."""
    if mantissa is None or exponent == 0:
        return None if mantissa is None else str(mantissa)
    digits = str(abs(mantissa)).rjust(1 - exponent, "0")
    sign = "-" if mantissa < 0 else ""
    return f"{sign}{digits[:exponent]}.{digits[exponent:]}"


def messages(path):
    """Yields each WebSocket message of the file."""
    with open(path, "rb") as file:
        while prefix := file.read(4):
            (size,) = struct.unpack("<I", prefix)
            message = file.read(size)
            if len(message) != size:
                sys.exit(f"{path} ends within a message")
            yield message


def blocks(schema, message):
    """Yields each SBE message of a WebSocket message, header included."""
    at = 0
    while at < len(message):
        header = schema.decode_header(message[at:])
        if header["schemaId"] != int(schema.id):
            sys.exit(f"schema id {header['schemaId']} at byte {at}")
        end = at + schema.header_size + header["blockLength"]
        if end > len(message):
            sys.exit(f"an SBE message at byte {at} ends beyond its WebSocket message")
        # Templates of later versions are not in this schema.
        if header["templateId"] in schema.messages:
            yield message[at:end]
        at = end


def readable(decoded):
    """The fields of one message, with exponents worked into their mantissas."""
    fields = decoded.value
    line = {"template": decoded.message_name}
    for name, value in fields.items():
        if name in EXPONENTS:
            line[name] = decimal(value, fields[EXPONENTS[name]])
        elif name not in EXPONENTS.values() and not name.startswith("reserved"):
            line[name] = value
    return line


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        schema = sbe.Schema.parse(file)
    for message in messages(sys.argv[2]):
        for block in blocks(schema, message):
            print(json.dumps(readable(schema.decode(block))))


if __name__ == "__main__":
    main()
