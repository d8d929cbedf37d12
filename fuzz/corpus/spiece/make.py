#!/usr/bin/env python3
"""Writes the SentencePiece models of this folder: small ones, each with other kinds of pieces. Needs Python alone.

Fields are numbered as in sentencepiece_model.proto. Real models are ten times larger than what fuzzing makes good use of.
"""

import pathlib
import struct

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def integer(number, value):
    return varint(number << 3) + varint(value)


def block(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def piece(text, score=0.0, kind=NORMAL):
    return block(1, block(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) + integer(3, kind))


def words(texts):
    return b"".join(piece(text, -1.0 - 0.5 * index) for index, text in enumerate(texts))


def charsmap():
    """A table that replaces `a` by `b`: a double-array trie of 512 units, and the replacements."""
    units = [0] * 512
    units[0] = 256 << 10  # children from unit 256 on
    node = 256 ^ ord("a")
    units[node] = ord("a") | 1 << 8 | 1 << 10  # has a value, in the unit beside it
    units[node ^ 1] = 4 | 1 << 31  # the value: byte 4 of the replacements
    trie = struct.pack("<512I", *units)
    return struct.pack("<I", len(trie)) + trie + "xé\0b\0".encode()


HEAD = piece("<pad>", kind=CONTROL) + piece("</s>", kind=CONTROL) + piece("<unk>", kind=UNKNOWN)
UNIGRAM = block(2, integer(3, 1))
MODELS = {
    "plain": HEAD + words(["▁", "▁a", "▁cat", "c", "a", "t", "s", "é"]) + UNIGRAM + block(3, block(1, b"identity")),
    "charsmap": HEAD + words(["▁", "▁b", "b", "cat"]) + UNIGRAM + block(3, block(1, b"x") + block(2, charsmap()) + integer(3, 0)),
    "bytes": HEAD + words(["▁", "▁a", "ca", "t"]) + piece("<sep>", kind=USER_DEFINED) + piece("<old>", kind=UNUSED)
    + b"".join(piece(f"<0x{byte:02X}>", kind=BYTE) for byte in range(256)) + UNIGRAM,
}

for name, model in MODELS.items():
    pathlib.Path(__file__).with_name(f"{name}.model").write_bytes(model)
