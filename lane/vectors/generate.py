#!/usr/bin/env python3
"""Writes the golden vectors of the lane, from the specification and not from the crate.

Needs the Python package `cryptography`. Run it in this folder; the output is the same every time.
"""

import json
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

COUNTERS = [0, 1, 0x3FFF, 0x4000, 0xFFFF, 0x10000, 0x10001, 0x13FFF, 0x14000, 0x1FFFF, 0x20000, 0x2FFFF, 0x30000]


def expand_label(secret, label, length):
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + b"\0"
    return HKDFExpand(SHA256(), length, info).derive(secret)


def mask(aead, key, sample):
    if aead == "aes-128-gcm":
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(sample)[:5]
    return Cipher(algorithms.ChaCha20(key, sample), None).encryptor().update(bytes(5))


def seal(aead, key_len, secret_0, lane_id, counter, spin, datagram):
    secret = secret_0
    for _ in range(counter >> 16):
        secret = expand_label(secret, b"quic ku", 32)
    key = expand_label(secret, b"quic key", key_len)
    iv = expand_label(secret, b"quic iv", 12)
    nonce = bytes(a ^ b for a, b in zip(iv, counter.to_bytes(12, "big")))
    first = 0x40 | spin << 5 | (counter >> 16 & 1) << 2 | 1
    header = bytes([first]) + lane_id + struct.pack(">H", counter & 0xFFFF)
    box = AESGCM(key) if aead == "aes-128-gcm" else ChaCha20Poly1305(key)
    packet = bytearray(header + box.encrypt(nonce, datagram, header))
    at = 1 + len(lane_id)
    hidden = mask(aead, expand_label(secret_0, b"quic hp", key_len), bytes(packet[at + 4 : at + 20]))
    packet[0] ^= hidden[0] & 0x1F
    packet[at] ^= hidden[1]
    packet[at + 1] ^= hidden[2]
    return bytes(packet)


for aead, key_len in [("aes-128-gcm", 16), ("chacha20-poly1305", 32)]:
    secret_0 = bytes(range(32)) if key_len == 16 else bytes(range(0x80, 0xA0))
    lane_id = bytes.fromhex("9a5c") if key_len == 16 else bytes.fromhex("c3a1b2c3d4e5f607")
    packets = []
    for i, counter in enumerate(COUNTERS):
        datagram = bytes((counter + n * 7) & 0xFF for n in range(2 + 13 * i))
        packet = seal(aead, key_len, secret_0, lane_id, counter, i & 1, datagram)
        packets.append(
            {"counter": counter, "spin": bool(i & 1), "datagram": datagram.hex(), "packet": packet.hex()}
        )
    vectors = {"aead": aead, "secret_0": secret_0.hex(), "lane_id": lane_id.hex(), "packets": packets}
    with open(aead + ".json", "w") as file:
        json.dump(vectors, file, indent=2)
        file.write("\n")
