"""deploy/compose.yaml and what it names: the three services are started here from it, without an engine.

Names of services become loopback, and fixed ports free ones; all else is as it is written there.
"""

import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.process import broker_arguments
from tests.haproxy import HAProxy
from tests.mosquitto import free_port
from tests.real import LOOPBACK, PATIENCE, RealBroker, eventually

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"

#: Ports that HAProxy has: of which listener, and whether with TLS.
PROXIED: Mapping[int, tuple[str, bool]] = {
    1883: ("mqtt", False),
    8883: ("mqtt", True),
    8083: ("mqtt", False),
    8081: ("gservice", False),
    8100: ("novacloud", False),
    30000: ("gateway88", True),
    8443: ("files", True),
    6666: ("loracenter", False),
}

CONNECT = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc"


class ComposeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        self.services = self.compose["services"]
        self.proxy = (DEPLOY / "haproxy.cfg").read_text()
        self.configuration = (DEPLOY / self.compose["configs"]["broker"]["file"]).read_text()
        self.folder = Path(tempfile.mkdtemp(dir=Path.cwd()))

    def ports(self, service: str) -> set[str]:
        return set(self.services[service]["ports"])

    def test_names_meet(self) -> None:
        for service in self.services.values():
            for config in service.get("configs", ()):
                self.assertTrue((DEPLOY / self.compose["configs"][config["source"]]["file"]).is_file())
            for volume in service.get("volumes", ()):
                self.assertIn(volume.partition(":")[0], self.compose["volumes"])
            self.assertLessEqual(set(service.get("depends_on", ())), set(self.services))
        build = self.services["broker"]["build"]
        self.assertTrue((DEPLOY / build["context"] / build["dockerfile"]).is_file())

    def test_every_port_is_served(self) -> None:
        """Published ports are those that HAProxy has; behind each is the broker's of the same number."""
        binds = re.findall(r"^    bind :(\d+)$", self.proxy, re.MULTILINE)
        servers = re.findall(r"^    server broker broker:(\d+)$", self.proxy, re.MULTILINE)
        self.assertEqual(binds, servers)
        self.assertEqual({int(port) for port in binds}, set(PROXIED))
        self.assertEqual(self.ports("haproxy"), {f"{port}:{port}" for port in PROXIED})
        self.assertEqual(self.ports("broker"), {"1700:1700/udp", "127.0.0.1:8080:8080"}, "the API stays on loopback")
        listeners = tomllib.loads(self.configuration)["listeners"]
        told = {name for name, table in listeners.items() if table.get("proxy_protocol")}
        self.assertEqual(told, {listener for listener, _ in PROXIED.values()}, "who HAProxy tells of addresses")

    def start_redis(self) -> tuple[subprocess.Popen[bytes], int]:
        program, *options = self.services["redis"]["command"]
        binary = shutil.which(program)
        assert binary is not None, "redis-server is missing: sh tools/environment.sh test"
        port = free_port()
        data = self.folder / "redis"
        data.mkdir()
        log = (self.folder / "redis.log").open("wb")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            [binary, *options, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data)], stdout=log, stderr=log
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        kind, *probe = self.services["redis"]["healthcheck"]["test"]
        self.assertEqual(kind, "CMD")
        asked = [probe[0], "-p", str(port), *probe[1:]]
        eventually(
            lambda: subprocess.run(asked, capture_output=True, check=False, timeout=PATIENCE).stdout == b"PONG\n",
            "an answer to the health check of Redis",
        )
        return process, port

    def start_broker(self, redis: int) -> RealBroker:
        text = self.configuration.replace("redis://redis:6379/", f"redis://127.0.0.1:{redis}/")
        self.assertNotEqual(text, self.configuration)
        configuration = self.folder / "broker.toml"
        configuration.write_text(text)
        here = {"log.format": '"text"', "listeners.files.bind": '["tls:0:interface=127.0.0.1"]'}
        here["listeners.gateway88.bind"] = '["tls:0:interface=127.0.0.1"]'
        here["listeners.mqtt.bind"] = '["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]'
        here |= {f"listeners.{name}.bind": LOOPBACK for name in ("loracenter", "gservice", "novacloud", "http")}
        here |= {f"listeners.{name}.proxy_from": '["127.0.0.1"]' for name, _ in PROXIED.values()}
        broker = RealBroker(
            self.folder,
            {**here, "listeners.mqtt.anonymous": "true"},
            broker_arguments("--config", str(configuration)),
        )
        broker.start()
        self.addCleanup(broker.stop)
        return broker

    def start_proxy(self, broker: RealBroker) -> dict[int, int]:
        """HAProxy's port for each of its fixed ones."""
        text = self.proxy.replace("port 8080", f"port {broker.ports['http']}")
        ports = {}
        for port, (listener, tls) in PROXIED.items():
            behind = (broker.tls_ports if tls else broker.ports)[listener]
            ports[port] = free_port()
            text = text.replace(f"bind :{port}\n", f"bind 127.0.0.1:{ports[port]}\n")
            text = text.replace(f"broker:{port}\n", f"127.0.0.1:{behind}\n")
        proxy = HAProxy(self.folder, text)
        self.assertNotIn("ALERT", proxy.check())
        proxy.start()
        self.addCleanup(proxy.stop)
        eventually(lambda: reached(ports[1883]), "HAProxy listens")
        return ports

    def test_a_client_is_heard_through_all_three_from_its_own_address(self) -> None:
        _, redis = self.start_redis()
        broker = self.start_broker(redis)
        ports = self.start_proxy(broker)
        with socket.create_connection(("127.0.0.1", ports[1883]), PATIENCE, ("127.0.0.77", 0)) as client:
            client.sendall(CONNECT)
            self.assertEqual(client.recv(4), b"\x20\x02\x00\x00")
            # Not all of the listener's: the look at whether HAProxy listens was a connection too, and may still be one.
            _, page = broker.call("GET", "/connections?listener=mqtt&q=abc")
            self.assertEqual(
                [(one["identity"], one["host"]) for one in page["items"]], [("anonymous (abc)", "127.0.0.77")]
            )
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        for port, (listener, tls) in PROXIED.items():
            with socket.create_connection(("127.0.0.1", ports[port]), PATIENCE, ("127.0.0.78", 0)) as client:
                if tls:
                    unverified.wrap_socket(client).close()
                elif listener in ("novacloud", "loracenter"):
                    eventually(partial(has_one, broker, f"listener={listener}&q=127.0.0.78"), f"{listener} has it")
                elif listener == "gservice":
                    client.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
                    self.assertEqual(client.recv(12), b"HTTP/1.1 404")

    def test_who_comes_past_the_proxy_is_refused(self) -> None:
        _, redis = self.start_redis()
        broker = self.start_broker(redis)
        with socket.create_connection(("127.0.0.1", broker.ports["mqtt"]), PATIENCE) as client:
            client.sendall(CONNECT)
            try:
                answer = client.recv(4)
            except ConnectionResetError:
                answer = b""
        self.assertEqual(answer, b"")


def has_one(broker: RealBroker, query: str) -> bool:
    return bool(broker.call("GET", f"/connections?{query}")[1]["total"] == 1)


def reached(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True
