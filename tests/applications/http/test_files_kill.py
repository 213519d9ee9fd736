"""kill -9 in the middle of an upload: what was whole stays, of the other nothing. A real broker, real sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.real import PATIENCE, RealBroker, eventually


class KillTests(TestCase):
    timeout = 120

    async def test_kill_in_the_middle_of_an_upload(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        broker = RealBroker(folder)
        self.addCleanup(broker.kill)
        await deferToThread(self.upload_and_kill, broker)

    def upload_and_kill(self, broker: RealBroker) -> None:
        broker.start()
        status, old = broker.call("PUT", "/files/f", b"old content")
        self.assertEqual(status, 201, old)
        areas = broker.data_dir / "files"
        head = "PUT /api/v1/files/f HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n"
        with socket.create_connection(("127.0.0.1", broker.ports["http"]), PATIENCE) as client:
            client.sendall(f"{head}Authorization: Bearer {broker.admin_token}\r\n\r\n".encode() + bytes(3_000_000))
            eventually(
                lambda: sum(file.stat().st_size for file in (areas / "uploads").iterdir()) >= 1_000_000,
                "some of the upload is on disk",
            )
            broker.kill()
        self.assertEqual(len(list((areas / "uploads").iterdir())), 2)
        broker.start()
        self.assertEqual(broker.call("GET", "/files/f"), (200, old))
        self.assertEqual([file.name for file in (areas / "uploads").iterdir()], [old["id"]])
        self.assertEqual((areas / "uploads" / old["id"]).read_bytes(), b"old content")
