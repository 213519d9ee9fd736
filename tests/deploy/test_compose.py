"""deploy/compose.yaml and what it names: its services are started here from it, without an engine.

Names of services become loopback, fixed ports free ones, and volumes folders; all else is as it is written there.
"""

import http.client
import json
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

BROKERS = ("broker-1", "broker-2")
TOKEN = "the-administrators-token"

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
        for name in BROKERS:
            build = self.services[name]["build"]
            self.assertTrue((DEPLOY / build["context"] / build["dockerfile"]).is_file())

    def test_every_port_is_served(self) -> None:
        """Published ports are those that HAProxy has; behind each are the brokers' of the same number."""
        binds = re.findall(r"^    bind :(\d+)$", self.proxy, re.MULTILINE)
        for name in BROKERS:
            servers = re.findall(rf"^    server {name} {name}:(\d+)( no-send-proxy-v2)?$", self.proxy, re.MULTILINE)
            self.assertEqual([port for port, _ in servers], binds)
            self.assertEqual([port for port, untold in servers if untold], ["8080"])
        self.assertEqual({int(port) for port in binds}, {8080, *PROXIED})
        published = {f"{port}:{port}" for port in PROXIED} | {"127.0.0.1:8080:8080"}
        self.assertEqual(self.ports("haproxy"), published, "the API stays on loopback")
        self.assertEqual([self.ports(name) for name in BROKERS], [{"1700:1700/udp"}, {"1701:1700/udp"}])
        listeners = tomllib.loads(self.configuration)["listeners"]
        told = {name for name, table in listeners.items() if table.get("proxy_protocol")}
        self.assertEqual(told, {listener for listener, _ in PROXIED.values()}, "who HAProxy tells of addresses")

    def test_the_two_differ_in_name_and_data_alone(self) -> None:
        one, other = (dict(self.services[name]) for name in BROKERS)
        names = [service["environment"]["BROKER__BROKER__NAME"] for service in (one, other)]
        self.assertEqual(names, list(BROKERS))
        tokens = {service["environment"]["BROKER__BROKER__ADMIN_TOKEN"] for service in (one, other)}
        self.assertEqual(len(tokens), 1)
        self.assertTrue(tokens.pop().startswith("${BROKER_ADMIN_TOKEN:?"), "who has not set it is told")
        shared = set(one["volumes"]) & set(other["volumes"])
        self.assertEqual(shared, {"files:/var/lib/broker/files", "tls:/var/lib/broker/tls"})
        self.assertEqual(other["depends_on"]["broker-1"]["condition"], "service_healthy", "who makes the certificate")
        for differs in ("environment", "volumes", "ports", "depends_on"):
            del one[differs], other[differs]
        self.assertEqual(one, other)

    def start_redis(self) -> tuple[subprocess.Popen[bytes], int]:
        service = self.services["redis"]
        [script] = service["configs"]
        shell, path, entry, *command = service["command"]
        self.assertEqual((path, entry), (script["target"], "docker-entrypoint.sh"))
        assert shutil.which(command[0]) is not None, "redis-server is missing: sh tools/environment.sh test"
        port = free_port()
        self.data = self.folder / "redis"
        self.data.mkdir(exist_ok=True)
        log = (self.folder / "redis.log").open("ab")
        self.addCleanup(log.close)
        arguments = [shell, str(DEPLOY / self.compose["configs"][script["source"]]["file"]), *command]
        process = subprocess.Popen(
            [*arguments, "--port", str(port), "--bind", "127.0.0.1"], stdout=log, stderr=log, cwd=self.data
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

    def test_redis_begins_where_a_transaction_ends(self) -> None:
        """Its file was cut in the middle of one, as by a full disk: nothing of that one is ever carried out."""

        def ask(*words: str) -> list[str]:
            asked = ["redis-cli", "-p", str(port), *words]
            return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.split()

        def kill() -> None:
            process.kill()
            process.wait(PATIENCE)

        process, port = self.start_redis()
        both = "redis.call('SET', 'first', 1) redis.call('SET', 'second', 1)"
        ask("EVAL", both, "0")
        kill()
        (file,) = self.data.glob("appendonlydir/*.incr.aof")
        file.write_bytes(file.read_bytes().partition(b"second")[0])
        for _ in range(2):
            process, port = self.start_redis()
            ask("EVAL", both.replace("first", "third").replace("second", "fourth"), "0")
            kill()
        process, port = self.start_redis()
        self.assertEqual(sorted(ask("KEYS", "*")), ["fourth", "third"])

    def start_broker(self, redis: int, service: str) -> RealBroker:
        """That service: its data are in a folder of its own, with what both share in it."""
        text = self.configuration.replace("redis://redis:6379/", f"redis://127.0.0.1:{redis}/")
        self.assertNotEqual(text, self.configuration)
        configuration = self.folder / "broker.toml"
        configuration.write_text(text)
        here = {"log.format": '"text"', "listeners.files.bind": '["tls:0:interface=127.0.0.1"]'}
        here["listeners.gateway88.bind"] = '["tls:0:interface=127.0.0.1"]'
        here["listeners.mqtt.bind"] = '["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]'
        here |= {f"listeners.{name}.bind": LOOPBACK for name in ("loracenter", "gservice", "novacloud", "http")}
        here |= {f"listeners.{name}.proxy_from": '["127.0.0.1"]' for name, _ in PROXIED.values()}
        folder = self.folder / service
        broker = RealBroker(
            folder,
            {**here, "listeners.mqtt.anonymous": "true", "cluster.lease": "3"},
            broker_arguments("--config", str(configuration)),
        )
        for variable, value in self.services[service]["environment"].items():
            key = variable.removeprefix("BROKER__").replace("__", ".").lower()
            broker.settings[key] = json.dumps(TOKEN if "${BROKER_ADMIN_TOKEN" in value else value)
        broker.data_dir.mkdir(mode=0o700, parents=True)
        for volume in self.services[service]["volumes"]:
            source, _, target = volume.partition(":/var/lib/broker")
            if target:
                (self.folder / source).mkdir(mode=0o700, exist_ok=True)
                (broker.data_dir / target[1:]).symlink_to(self.folder.absolute() / source)
        broker.start()
        self.addCleanup(broker.kill)
        return broker

    def start_proxy(self, brokers: Mapping[str, RealBroker]) -> dict[int, int]:
        """HAProxy's port for each of its fixed ones."""
        text = self.proxy
        ports = {}
        for port, (listener, tls) in {8080: ("http", False), **PROXIED}.items():
            ports[port] = free_port()
            text = text.replace(f"bind :{port}\n", f"bind 127.0.0.1:{ports[port]}\n")
            for name, broker in brokers.items():
                behind = (broker.tls_ports if tls else broker.ports)[listener]
                checked = f"port {broker.ports['http']}"
                text = re.sub(rf"(server {name}) {name}:{port}( .*)?\n", rf"\1 127.0.0.1:{behind} {checked}\2\n", text)
        proxy = HAProxy(self.folder, text)
        self.assertNotIn("ALERT", proxy.check())
        proxy.start()
        self.addCleanup(proxy.stop)
        eventually(lambda: reached(ports[1883]), "HAProxy listens")
        return ports

    def start_all(self) -> tuple[dict[str, RealBroker], dict[int, int]]:
        _, redis = self.start_redis()
        brokers = {name: self.start_broker(redis, name) for name in BROKERS}
        return brokers, self.start_proxy(brokers)

    def test_clients_are_heard_through_all_of_them(self) -> None:
        brokers, ports = self.start_all()
        self.from_their_own_addresses(brokers, ports)
        self.with_one_dead(brokers, ports)

    def from_their_own_addresses(self, brokers: Mapping[str, RealBroker], ports: Mapping[int, int]) -> None:
        with socket.create_connection(("127.0.0.1", ports[1883]), PATIENCE, ("127.0.0.77", 0)) as client:
            client.sendall(CONNECT)
            self.assertEqual(client.recv(4), b"\x20\x02\x00\x00")
            # Not all of the listener's: the look at whether HAProxy listens was a connection too, and may still be one.
            hosts = [one["host"] for broker in brokers.values() for one in connections(broker, "listener=mqtt&q=abc")]
            self.assertEqual(set(hosts), {"127.0.0.77"})
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        certificates = set()
        for port, (listener, tls) in PROXIED.items():
            for _ in range(2 if listener == "files" else 1):  # one of each broker: the one with fewer connections
                with socket.create_connection(("127.0.0.1", ports[port]), PATIENCE, ("127.0.0.78", 0)) as client:
                    if tls:
                        with unverified.wrap_socket(client) as wrapped:
                            certificates.add(wrapped.getpeercert(True))
                    elif listener in ("novacloud", "loracenter"):
                        query = f"listener={listener}&q=127.0.0.78"
                        eventually(partial(has_one, brokers, query), f"{listener} has it")
                    elif listener == "gservice":
                        client.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
                        self.assertEqual(client.recv(12), b"HTTP/1.1 404")
        self.assertEqual(len(certificates), 1, "both have one certificate")

    def with_one_dead(self, brokers: Mapping[str, RealBroker], ports: Mapping[int, int]) -> None:
        first, second = brokers.values()
        device = first.call("POST", "/devices", {"protocol": "novacloud"}, TOKEN)[1]
        first.kill()

        def asked() -> int:
            api = http.client.HTTPConnection("127.0.0.1", ports[8080], timeout=PATIENCE)
            try:
                api.request("GET", f"/api/v1/devices/{device['id']}", headers={"Authorization": f"Bearer {TOKEN}"})
                return api.getresponse().status
            except (ConnectionError, http.client.HTTPException):  # HAProxy has not noticed yet
                return 0
            finally:
                api.close()

        # Every second connection would go to the one that is dead.
        eventually(lambda: [asked(), asked(), asked()] == [200] * 3, "all to go to the other one")
        self.assertEqual(second.call("GET", "/overview", token=TOKEN)[1]["name"], "broker-2")

    def test_who_comes_past_the_proxy_is_refused(self) -> None:
        _, redis = self.start_redis()
        broker = self.start_broker(redis, "broker-1")
        with socket.create_connection(("127.0.0.1", broker.ports["mqtt"]), PATIENCE) as client:
            client.sendall(CONNECT)
            try:
                answer = client.recv(4)
            except ConnectionResetError:
                answer = b""
        self.assertEqual(answer, b"")


def connections(broker: RealBroker, query: str) -> list[Any]:
    items: list[Any] = broker.call("GET", f"/connections?{query}", token=TOKEN)[1]["items"]
    return items


def has_one(brokers: Mapping[str, RealBroker], query: str) -> bool:
    return any(connections(broker, query) for broker in brokers.values())


def reached(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True
