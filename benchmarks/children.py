"""The servers under test, each a child process of its own with temporary data: ours, and the peers beside it.

CPU time is the process's user + system time with all its threads, read from its CPU clock (clock_getcpuclockid(3)),
which counts nanoseconds where /proc has hundredths of a second.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from broker.simulate.process import apart, broker_arguments, broker_environment, nothing_else

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv" / "peers"
#: Seconds that a server may take to start or to stop.
PATIENCE = 60.0
USER = "bench"


class BenchmarkError(Exception):
    """Something did not work as it has to; the text is one line."""


class NotInstalled(Exception):
    """A peer is not here; the text says how to get it."""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A server process. ``user`` and ``password`` are what MQTT clients log in with; they may use ``bench/#``."""

    name = ""
    #: The kind of load that a peer can take.
    speaks = "mqtt"
    #: Of a shape's messages: a slow server need not take minutes.
    share = 1.0

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="broker-bench-"))
        self.log = self.folder / "output.log"
        self.mqtt_port = free_port()
        self.user = USER
        self.password = "a fairly long password"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> None:
        """Run the command until it listens on ``port``. Raises BenchmarkError, with everything cleaned up."""
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                arguments, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self._wait_for_port(port)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU that the process has used."""
        return time.clock_gettime((~self.pid << 3) | 2)  # CPUCLOCK_SCHED of the whole process

    def storage_cpu(self) -> float:
        """Seconds of CPU that another process has used that stores for this one."""
        return 0.0

    def resident(self) -> float:
        """Its memory in KB, without what it shares with others."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1])
        raise BenchmarkError("this kernel does not tell the memory of a process")

    def _wait_for_port(self, port: int) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                self.check_alive()
                if time.monotonic() > until:
                    raise BenchmarkError(f"{self.name} does not listen: {self.last_line()}") from None
                time.sleep(0.05)

    def check_alive(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise BenchmarkError(f"{self.name} ended with status {self._process.returncode}: {self.last_line()}")

    def last_line(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "(no output)"

    def kill(self) -> None:
        """kill -9; its data stays."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it and remove its data."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class Broker(Child):
    """`twistd -n broker`: authentication, rights and metrics on, rate limits off, history as asked."""

    name = "broker"
    storage = "sqlite"

    def __init__(
        self, *, history: bool = False, reactor: str = "", more: Mapping[str, str] | None = None, own_user: bool = True
    ) -> None:
        super().__init__()
        self.novacloud_port = free_port()
        self.gateway88_port = free_port()
        self.lorawan_port = free_port()
        self.loracenter_port = free_port()
        self.http_port = free_port()
        self.gservice_port = free_port()
        self._token = "benchmark-token"
        self._gateways = 0
        local = "interface=127.0.0.1"
        arguments = broker_arguments()
        if reactor:
            arguments.insert(arguments.index("--nodaemon"), f"--reactor={reactor}")
        settings = {
            "broker.data_dir": str(self.folder / "data"),
            "broker.admin_token": self._token,
            "log.level": "warn",
            "history.enabled": "true" if history else "false",
            "limits.max_message_rate": "0",
            "limits.max_connections": "100000",
            "listeners.http.bind": f'["tcp:{self.http_port}:{local}"]',
            "listeners.mqtt.bind": f'["tcp:{self.mqtt_port}:{local}"]',
            "listeners.mqtt.max_sessions": "200000",  # growth has as many as the default allows, and some
            "listeners.novacloud.bind": f'["tcp:{self.novacloud_port}:{local}"]',
            "listeners.gservice.bind": f'["tcp:{self.gservice_port}:{local}"]',
            "listeners.gservice.users.max_new_users_per_address": "1000000",
            "listeners.gateway88.bind": f'["tls:{self.gateway88_port}:{local}"]',
            "listeners.loracenter.bind": f'["tcp:{self.loracenter_port}:{local}"]',
            "listeners.lorawan.bind": f'["udp:{self.lorawan_port}:{local}"]',
            "listeners.lorawan.region": "eu868",
            "listeners.lorawan.unknown": "accept",
            **(more or {}),
        }
        self._command = apart(self.command(arguments))
        self._environment = self.environment(broker_environment(nothing_else(settings)))
        self.start_again()
        try:
            wish = {"id": USER, "kind": "mqtt"}
            application = self.call("POST", "/applications", wish) if own_user else {"secret": ""}
        except BaseException:
            self.stop()
            raise
        self.password = application["secret"]

    def command(self, arguments: list[str]) -> list[str]:
        """What is run in place of twistd's own command line."""
        return arguments

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        """With what the process needs besides its settings."""
        return given

    def start_again(self) -> None:
        """Start and wait until it takes work."""
        self.start(self._command, self.http_port, self._environment)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Stop it as its operator would, and start it again with its data."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        self.start_again()

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + PATIENCE
        while self.request("GET", "/readyz")[0] != 200:
            self.check_alive()
            if time.monotonic() > until:
                raise BenchmarkError(f"the broker does not get ready: {self.last_line()}")
            time.sleep(0.05)

    @property
    def authorization(self) -> str:
        return f"Bearer {self._token}"

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
        """One HTTP request as the administrator."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
        headers = {"Authorization": self.authorization}
        if body is not None:
            headers["Content-Type"] = kind or "application/json"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API. Raises BenchmarkError when it is refused."""
        status, answer = self.request(method, f"/api/v1{path}", None if body is None else json.dumps(body).encode())
        if status >= 400:
            raise BenchmarkError(f"{method} {path}: {status} {answer.decode('utf-8', 'replace')[:200]}")
        return json.loads(answer) if answer else None

    def sample(self, name: str) -> float:
        """A figure of /metrics by its name with labels; 0 for one that is not there."""
        for line in self.request("GET", "/metrics")[1].decode().splitlines():
            found, _, value = line.rpartition(" ")
            if found == name:
                return float(value)
        return 0.0

    def add_device(self) -> tuple[str, str]:
        """Id and key of a new NovaCloud device of a product, bound to the benchmark's application."""
        if self.request("GET", "/api/v1/products/bench")[0] == 404:
            self.call("POST", "/products", PRODUCT)
        device = self.call("POST", "/devices", {"protocol": "novacloud", "product": "bench"})
        self.call("PUT", f"/applications/{USER}/devices/{device['id']}")
        return device["id"], device["secret"]

    def add_gateway(self) -> bytes:
        """The MAC of a new 0x88 gateway."""
        return self.add_gateways(1)[0]

    def add_gateways(self, count: int) -> list[bytes]:
        """The MACs of new 0x88 gateways."""
        first = 0x020000000001 + self._gateways
        self._gateways += count
        macs = [(first + number).to_bytes(6, "big") for number in range(count)]
        self.register({"protocol": "gateway88", "id": mac.hex()} for mac in macs)
        return macs

    def register(self, devices: Iterable[dict[str, Any]]) -> None:
        """Register many devices. Raises BenchmarkError when one is refused."""
        lines = b"".join(json.dumps(device).encode() + b"\n" for device in devices)
        status, answer = self.request("POST", "/api/v1/devices/import", lines, "application/x-ndjson")
        failed = json.loads(answer)["failed"] if status == 200 else answer
        if failed:
            raise BenchmarkError(f"not registered: {status} {failed!r}"[:200])


PRODUCT: dict[str, Any] = {
    "key": "bench",
    "name": "Benchmark",
    "protocol": "novacloud",
    "sensors": [{"value_key": key, "name": key, "unit": ""} for key in ("temperature", "humidity", "n")],
    "actuators": [{"command_key": "light", "name": "light"}],
}


class Mosquitto(Child):
    """Eclipse Mosquitto with a password file and an access list, so that it does the same work."""

    name = "mosquitto"

    def extra_lines(self) -> list[str]:
        """Of its configuration."""
        return []

    def __init__(self) -> None:
        binary, passwords = (shutil.which(name, path=_PATH) for name in ("mosquitto", "mosquitto_passwd"))
        if binary is None or passwords is None:
            raise NotInstalled("apt install mosquitto")
        super().__init__()
        (self.folder / "passwords").touch()
        subprocess.run(
            [passwords, "-b", str(self.folder / "passwords"), self.user, self.password], check=True, capture_output=True
        )
        (self.folder / "rights").write_text(f"user {self.user}\ntopic readwrite bench/#\n")
        lines = [
            f"listener {self.mqtt_port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {self.folder}/passwords",
            f"acl_file {self.folder}/rights",
            "persistence false",
            "set_tcp_nodelay true",
            "max_inflight_messages 1000",
            "max_queued_messages 0",
            "log_type error",
            *(["user root"] if os.geteuid() == 0 else []),
            *self.extra_lines(),
        ]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self.start([binary, "-c", str(self.folder / "mosquitto.conf")], self.mqtt_port)


class Nats(Child):
    """NATS with its MQTT listener, a user and the same rights; without its store it takes no MQTT."""

    name = "nats"

    def __init__(self) -> None:
        binary = shutil.which("nats-server", path=_PATH)
        if binary is None:
            raise NotInstalled("apt install nats-server")
        super().__init__()
        may = '{ allow: ["bench.>", "$MQTT.>", "_INBOX.>"] }'
        lines = [
            'server_name: "bench"',
            f"listen: 127.0.0.1:{free_port()}",
            f'jetstream {{ store_dir: "{self.folder}/store" }}',
            f"mqtt {{ listen: 127.0.0.1:{self.mqtt_port}, max_ack_pending: 1000 }}",
            "authorization { users: [",
            f'  {{ user: "{self.user}", password: "{self.password}",',
            f"    permissions: {{ publish: {may}, subscribe: {may} }} }}",
            "] }",
        ]
        (self.folder / "nats.conf").write_text("\n".join(lines) + "\n")
        self.start([binary, "-c", str(self.folder / "nats.conf")], self.mqtt_port)


class Aedes(Child):
    """aedes on Node.js, with the same checks as callbacks."""

    name = "aedes"

    def __init__(self) -> None:
        node = shutil.which("node", path=_PATH)
        modules = PEERS / "node_modules"
        if node is None or not (modules / "aedes").is_dir():
            raise NotInstalled("python -m benchmarks --install-peers (needs node and npm)")
        super().__init__()
        script = self.folder / "aedes.mjs"
        script.write_bytes((HERE / "peers" / "aedes.mjs").read_bytes())
        (self.folder / "node_modules").symlink_to(modules)
        self.start([node, str(script), str(self.mqtt_port), self.user, self.password], self.mqtt_port)


class Amqtt(Child):
    """amqtt on asyncio, with its file authentication and topic access list."""

    name = "amqtt"
    share = 0.05

    def __init__(self) -> None:
        python = PEERS / "amqtt" / "bin" / "python"
        if not python.exists():
            raise NotInstalled("python -m benchmarks --install-peers")
        super().__init__()
        script = HERE / "peers" / "amqtt_server.py"
        arguments = [str(python), str(script), str(self.mqtt_port), self.user, self.password, str(self.folder)]
        self.start(arguments, self.mqtt_port)


_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def install_peers() -> None:
    """Put aedes and amqtt under .venv/peers, each by its own package installer. Raises BenchmarkError."""
    PEERS.mkdir(parents=True, exist_ok=True)
    npm = shutil.which("npm", path=_PATH)
    steps = [] if npm is None else [[npm, "install", "--silent", "--no-fund", "--prefix", str(PEERS), "aedes"]]
    steps.append([sys.executable, "-m", "venv", str(PEERS / "amqtt")])
    steps.append([str(PEERS / "amqtt" / "bin" / "python"), "-m", "pip", "install", "--quiet", "amqtt"])
    for step in steps:
        print("$", " ".join(step), flush=True)
        if subprocess.run(step, check=False).returncode:
            raise BenchmarkError(f"failed: {' '.join(step)}")
