"""A NovaCloud device in plain Python: logs in, says a temperature every five seconds, carries out each command.

    python3 examples/novacloud_device.py HOST PORT DEVICE_ID DEVICE_KEY

The device was registered before: POST /api/v1/devices {"protocol": "novacloud", "id": DEVICE_ID, "secret": DEVICE_KEY}
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

EVERY = 5.0


def main(host: str, port: str, device_id: str, device_key: str) -> None:
    with socket.create_connection((host, int(port))) as connection:

        def say(kind: str, **fields: Any) -> None:
            connection.sendall(json.dumps({"type": kind, **fields}).encode("ascii") + b"\n")

        say("auth", payload={"device_id": device_id, "device_key": device_key})
        state = {"temperature": 21.5, "light": "OFF"}
        due, held = 0.0, b""
        while True:
            if time.monotonic() >= due:
                say("data", payload=state)
                due = time.monotonic() + EVERY
            connection.settimeout(max(0.01, due - time.monotonic()))
            try:
                data = connection.recv(65_536)
            except TimeoutError:
                continue
            if not data:
                raise SystemExit("the broker has closed the connection")
            *lines, held = (held + data).split(b"\n")
            for line in filter(None, lines):
                print(line.decode(), flush=True)
                message = json.loads(line)
                if message["type"] == "command":
                    state.update(message["payload"])
                    fields = {"command_id": message["command_id"], "status": "success", "payload": message["payload"]}
                    say("command_response", **fields)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
