"""A LoRaCenter customer server in plain Python: registers, shows UPLOADs, answers each with a SENDTO.

    python examples/customer_server.py HOST PORT CSEUI APPKEY

The application was registered before, with the devices that it may see:

    POST /api/v1/applications {"id": "cs", "kind": "loracenter", "cs_eui": CSEUI, "app_key": APPKEY}
    PUT  /api/v1/applications/cs/devices/DEVICE
"""

from __future__ import annotations

import json
import socket
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from secrets import randbits
from typing import Any

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC


def challenge(app_key: str, cs_eui: str, nonce: int) -> str:
    """AES-CMAC of CsEUI (8 bytes), AppNonce (4 bytes, the most significant first) and four zero bytes."""
    mac = CMAC(AES(bytes.fromhex(app_key)))
    mac.update(bytes.fromhex(cs_eui) + nonce.to_bytes(4, "big") + bytes(4))
    return mac.finalize().hex().upper()


def messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Each is a JSON object that a NUL ends."""
    held = b""
    while data := connection.recv(65_536):
        *texts, held = (held + data).split(b"\0")
        for text in texts:
            if text:
                yield json.loads(text)


def main(host: str, port: str, cs_eui: str, app_key: str) -> None:
    with socket.create_connection((host, int(port))) as connection:

        def ask(**fields: Any) -> None:
            connection.sendall(json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\0")

        nonce = randbits(32)
        ask(CMD="CSREG", Token=1, CsEUI=cs_eui, AppNonce=nonce, Challenge=challenge(app_key, cs_eui, nonce))
        for token, message in enumerate(messages(connection), 2):
            print(json.dumps(message), flush=True)
            if message["CMD"] == "UPLOAD":
                print(message["DevEUI"], b64decode(message["payload"]), flush=True)
                answer = b64encode(b'{"heard":true}').decode("ascii")
                ask(
                    CMD="SENDTO",
                    Token=token,
                    CsEUI=cs_eui,
                    DevEUI=message["DevEUI"],
                    payload=answer,
                    Port=message["Port"],
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
