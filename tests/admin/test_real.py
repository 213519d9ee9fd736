"""The command line against a real broker: the registry, commands, messages, files, and what goes wrong."""

from __future__ import annotations

import json
import os
import socket
import stat
from hashlib import sha256
from pathlib import Path

from tests.admin.bed import BrokerCase, Device, environment, run
from tests.real import RealBroker, eventually

IMPORTED = 10_000


class RegistryTests(BrokerCase):
    def test_devices(self) -> None:
        made = self.json("devices", "add", "novacloud", "--name", "greenhouse", "--set", "disabled:=true")
        id = made["id"]
        self.assertEqual(len(made["secret"]), 64)
        self.assertEqual(self.json("devices", "show", id)["name"], "greenhouse")
        shown = self.admin("devices", "show", id)
        self.assertRegex(shown.out, rf"(?m)^id +{id}$")
        self.assertNotIn(made["secret"], shown.out)
        self.assertEqual([one["id"] for one in self.items("devices", "list", "greenhouse")], [id])
        self.assertEqual(self.items("devices", "list", "greenhouse", "--protocol", "lorawan"), [])
        self.assertEqual(self.items("devices", "list", "greenhouse", "--online", "yes"), [])
        self.assertIn("no such devices", self.admin("devices", "list", "greenhouse", "--online", "yes").err)
        self.assertIn("greenhouse", self.admin("devices", "list").out)
        self.assertEqual(self.json("devices", "change", id, "--name", "roof")["name"], "roof")
        self.assertIn("--yes", self.admin("devices", "change", id, "--new-secret", status=2).err)
        again = self.admin("devices", "change", id, "--new-secret", "--yes")
        self.assertIn("shown this once", again.err)
        self.assertIn("secret", again.out)
        self.assertEqual(self.admin("devices", "remove", id, "--yes", "--json").out, "")
        missing = self.admin("devices", "show", id, status=1)
        self.assertEqual(missing.out, "")
        self.assertEqual(missing.err, f"broker-admin: there is no device '{id}' (404 Not found)\n")

    def test_a_question_is_asked_on_a_terminal(self) -> None:
        id, _ = self.device("asked")
        for answer in ("n\n", "\n", ""):
            done = self.admin("devices", "remove", id, stdin=answer, terminal=True, status=1)
            self.assertIn(f"Delete {id}", done.err)
            self.assertIn("nothing was done", done.err)
        self.admin("devices", "show", id)
        self.admin("devices", "remove", id, stdin="y\n", terminal=True)
        self.admin("devices", "show", id, status=1)

    def test_lists_say_when_there_is_more(self) -> None:
        for number in range(3):
            self.device(f"several {number}")
        some = self.admin("devices", "list", "several", "--limit", "2", "--json")
        self.assertEqual(len(some.values), 2)
        self.assertIn("there are more", some.err)
        self.assertEqual(self.admin("devices", "list", "several", "--all").err, "")

    def test_names_are_shown_as_they_are(self) -> None:
        name = "[red]名字[/red] :smile: größe"
        self.device(name)
        for terminal in (False, True):
            self.assertIn(name, self.admin("devices", "list", "größe", terminal=terminal).out)

    def test_products(self) -> None:
        sensors = '[{"value_key": "lux", "name": "Light", "unit": "lx"}]'
        self.json("products", "add", "lamp", "novacloud", "--name", "Lamp", "--set", f"sensors:={sensors}")
        self.assertEqual(self.items("products", "list")[0]["key"], "lamp")
        self.assertIn("lux", self.admin("products", "show", "lamp").out)
        self.assertEqual(self.json("products", "change", "lamp", "--name", "L")["name"], "L")
        id, _ = self.device("with", product="lamp")
        self.assertIn("409", self.admin("products", "remove", "lamp", "--yes", status=1).err)
        self.admin("devices", "remove", id, "--yes")
        self.admin("products", "remove", "lamp", "--yes")
        self.assertEqual(self.items("products", "list"), [])

    def test_applications(self) -> None:
        made = self.json("applications", "add", "mqtt", "--id", "app", "--name", "dashboards")
        self.assertTrue(made["secret"])
        id, _ = self.device("bound")
        self.admin("applications", "bind", "app", id)
        self.assertEqual(self.json("applications", "show", "app")["devices"], [id])
        self.assertIn(id, self.admin("applications", "show", "app").out)
        self.assertNotIn("secret", self.json("applications", "show", "app"))
        self.admin("applications", "unbind", "app", id)
        self.assertEqual(self.json("applications", "show", "app")["devices"], [])
        self.assertNotEqual(self.json("applications", "change", "app", "--new-secret", "-y")["secret"], made["secret"])
        self.assertTrue(self.json("applications", "change", "app", "--set", "disabled:=true")["disabled"])
        self.admin("applications", "bind", "app", "nothing", status=1)
        self.admin("applications", "remove", "app", "--yes")
        self.assertEqual(self.items("applications", "list"), [])

    def test_quarantine(self) -> None:
        """A LoRaWAN gateway that nobody has registered says hello."""
        for number in (1, 2):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
                address = ("127.0.0.1", self.broker.ports["lorawan"])
                gateway.sendto(bytes.fromhex(f"02123402AA555A000000010{number}"), address)
        waiting = ["AA555A0000000101", "AA555A0000000102"]
        eventually(
            lambda: [one["id"] for one in self.items("quarantine", "list", "--protocol", "lorawan")] == waiting,
            "both wait",
        )
        self.assertIn("AA555A0000000101", self.admin("quarantine", "list").out)
        self.assertEqual(self.json("quarantine", "approve", waiting[0], "--name", "roof")["name"], "roof")
        self.admin("quarantine", "forget", waiting[1])
        self.assertIn("nobody waits", self.admin("quarantine", "list").err)
        self.admin("quarantine", "forget", "nobody", status=1)
        path = ("lorawan-gateways", "show", waiting[0])
        self.assertEqual(self.json(*path)["eui"], waiting[0])
        self.admin("lorawan-gateways", "remove", waiting[0], "--yes")

    def test_lorawan_gateways(self) -> None:
        position = 'position:={"long": 13.4, "lati": 52.5, "alti": 40}'
        eui = "AA555A0000000201"
        self.json("lorawan-gateways", "add", eui, "--name", "roof", "--region", "eu868", "--set", position)
        self.admin("lorawan-gateways", "add", eui, status=1)
        self.assertEqual(self.json("lorawan-gateways", "change", eui, "--name", "hall")["name"], "hall")
        self.assertIn(eui, [one["eui"] for one in self.items("lorawan-gateways", "list", "--online", "no")])
        self.assertIn("hall", self.admin("lorawan-gateways", "list").out)
        self.admin("lorawan-gateways", "remove", eui, "--yes")
        self.admin("lorawan-gateways", "show", eui, status=1)

    def test_any_call(self) -> None:
        document = self.admin("call", "GET", "/openapi.json").value
        self.assertIn("/api/v1/devices", document["paths"])
        id, _ = self.device("x")
        self.assertEqual(self.admin("call", "PATCH", f"/devices/{id}", "name=y", "disabled:=true").value["name"], "y")
        self.admin("call", "GET", "/nowhere", status=1)


class ImportTests(BrokerCase):
    def test_ten_thousand_lines_and_the_bad_ones(self) -> None:
        lines = [
            json.dumps({"protocol": "novacloud", "id": f"10000000-0000-4000-8000-{n:012d}", "secret": "s" * 20})
            for n in range(IMPORTED)
        ]
        lines[4_321] = "{"
        lines[9_000] = lines[8_999]
        lines.insert(2_000, "")
        file = self.mktemp()
        Path(file).write_text("\n".join(lines))
        done = self.admin("devices", "import", file, "--json", status=1)
        self.assertEqual(done.value["created"], IMPORTED - 2)
        self.assertEqual([one["line"] for one in done.value["failed"]], [4_323, 9_002])
        self.assertNotIn("secrets", done.value)
        self.assertEqual(done.err, "")
        exported = self.admin("devices", "export", "10000000-0000").values
        self.assertEqual(len(exported), IMPORTED - 2)
        target = self.mktemp()
        wrote = self.admin("devices", "export", "10000000-0000", "-o", target)
        self.assertIn(f"{IMPORTED - 2} devices", wrote.out)
        with open(target) as found:
            self.assertEqual([json.loads(line) for line in found], exported)
        bar = self.admin("devices", "import", file, "--from-line", "10001", terminal=True, status=1)
        self.assertIn("100%", bar.err)
        self.assertIn("registered 0, refused 1", bar.out)

    def test_secrets_that_are_made_go_into_a_file(self) -> None:
        lines = "".join(json.dumps({"protocol": "novacloud", "name": f"made {n}"}) + "\n" for n in range(600))
        secrets = self.mktemp()
        done = self.admin("devices", "import", "-", "--secrets", secrets, stdin=lines)
        self.assertIn("registered 600, refused 0", done.out)
        self.assertEqual(stat.S_IMODE(os.stat(secrets).st_mode), 0o600)
        with open(secrets) as found:
            pairs = [json.loads(line) for line in found]
        self.assertEqual(len({one["id"] for one in pairs}), 600)
        self.assertNotIn(pairs[0]["secret"], done.out + done.err)
        Device(self.broker, pairs[0]["id"], pairs[0]["secret"]).close()
        again = self.admin("devices", "import", "-", "--secrets", secrets, stdin=lines, status=2)
        self.assertIn("exists", again.err)
        shown = self.admin("devices", "import", "-", stdin='{"protocol": "novacloud"}\n')
        self.assertIn("shown this once", shown.err)

    def test_files_that_are_none(self) -> None:
        self.admin("devices", "import", "/nonexistent", status=2)
        self.admin("devices", "import", "/", status=2)
        endless = self.admin("devices", "import", "-", stdin="x" * 1_100_000, status=1)
        self.assertIn("line 1 is longer", endless.err)
        self.assertIn("registered 0", endless.out)
        self.assertIn("registered 0", self.admin("devices", "import", "-").out)


class TrafficTests(BrokerCase):
    def test_messages_and_values_with_escapes_in_them(self) -> None:
        id, secret = self.device("talks")
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        evil = "\x1b]0;owned\x07\x9b2J\u202e"
        device.data({"temperature": 21.5, "text": evil, evil: 1})
        device.data({"n": 2})
        eventually(lambda: len(self.items("messages", id)) == 2, "both are in history")
        first, second = self.items("messages", id)
        self.assertEqual((first["payload"]["text"], second["payload"]), (evil, {"n": 2}))
        for line in (
            ("messages", id),
            ("devices", "show", id),
            ("devices", "show", id, "--json"),
            ("messages", id, "--json"),
        ):
            out = self.admin(*line).out
            self.assertTrue(all(one.isprintable() for one in out.split("\n")), ascii(out))
        shown = self.admin("devices", "show", id, terminal=True).out
        self.assertIn("\\x1b]0;owned\\x07\\x9b2J\\u202e", shown)
        self.assertNotIn("\x1b]", shown)
        self.assertEqual(len(self.items("messages", id, "--limit", "1")), 1)
        self.assertEqual(self.items("messages", id, "--until", "1h"), [])
        self.assertEqual(len(self.items("messages", id, "--since", "1h", "--kind", "data")), 2)
        self.admin("messages", id, "--kind", "nope", status=1)
        self.admin("messages", "nobody", status=1)

    def test_commands(self) -> None:
        id, secret = self.device("obeys")
        queued = self.json("commands", "send", id, '{"light": "ON"}', "--ref", "r1")
        self.assertEqual(queued["status"], "queued")
        cancelled = self.admin("commands", "cancel", queued["id"])
        self.assertIn(f"cancelled {queued['id']}", cancelled.out)
        self.assertIn("409", self.admin("commands", "cancel", queued["id"], status=1).err)
        offline = self.admin("commands", "send", id, '{"light": "ON"}', "--expires", "0", status=1)
        self.assertIn("offline", offline.err)
        late = self.admin("commands", "send", id, '{"light": "OFF"}', "--wait", "0.2", "--json", status=1)
        self.assertEqual(late.value["status"], "queued")
        self.assertIn("commands watch", late.err)
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        device.answer_command({"light": "OFF"})
        watched = self.admin("commands", "watch", late.value["id"], "--json").values
        self.assertEqual(watched[-1]["status"], "succeeded")
        self.assertEqual(watched[-1]["result"], {"light": "OFF"})
        self.assertEqual(self.admin("commands", "watch", queued["id"], status=1).err, "")
        shown = self.json("commands", "show", late.value["id"])
        self.assertEqual(shown["status"], "succeeded")
        self.assertEqual([one["id"] for one in self.items("commands", "list", id)], [shown["id"], queued["id"]])
        self.assertIn("succeeded", self.admin("commands", "list", id).out)
        self.admin("commands", "show", "nothing", status=1)
        raw = self.json("commands", "send", id, "--hex", "01 02", "--force")
        self.assertEqual(self.json("commands", "show", raw["id"])["payload_base64"], "AQI=")

    def test_traces(self) -> None:
        id, _ = self.device("traced")
        self.assertEqual(self.json("trace", "start", id, "--for", "10m")["device"], id)
        self.assertIn(id, self.admin("trace", "list").out)
        self.admin("trace", "stop", id)
        self.assertEqual(self.items("trace", "list"), [])
        self.admin("trace", "start", "nobody", status=1)

    def test_status(self) -> None:
        shown = self.admin("status").out
        for part in ("started_at", "LISTENER", "novacloud"):
            self.assertIn(part, shown)
        self.assertEqual(self.json("status")["problems"], [])
        figures = self.items("metrics", "broker_connections")
        self.assertIn({"listener": "http"}, [one["labels"] for one in figures])
        self.assertIn("no such figures", self.admin("metrics", "nothing").err)


class FileTests(BrokerCase):
    def test_there_and_back(self) -> None:
        content = os.urandom(3_000_001)
        file = self.mktemp()
        Path(file).write_bytes(content)
        bar = self.admin("files", "put", file, "--name", "relay 2.4 ü%2F#.bin", terminal=True)
        self.assertIn("100%", bar.err)
        info = self.json("files", "show", "relay 2.4 ü%2F#.bin")
        self.assertEqual((info["size"], info["sha256"]), (len(content), sha256(content).hexdigest()))
        self.assertIn("3.0 MB", self.admin("files", "list", "--prefix", "relay").out)
        self.assertEqual(self.items("files", "list", "--prefix", "other"), [])
        question = self.admin("files", "put", file, "--name", "relay 2.4 ü%2F#.bin", status=2)
        self.assertIn("is there already", question.err)
        self.assertEqual(
            self.json("files", "put", file, "--name", "relay 2.4 ü%2F#.bin", "--yes")["size"], len(content)
        )
        target = self.mktemp()
        self.admin("files", "get", "relay 2.4 ü%2F#.bin", "-o", target)
        self.assertEqual(Path(target).read_bytes(), content)
        self.assertFalse(Path(f"{target}.part").exists())
        self.assertIn("exists", self.admin("files", "get", "relay 2.4 ü%2F#.bin", "-o", target, status=2).err)
        self.admin("files", "remove", "relay 2.4 ü%2F#.bin", "--yes")
        self.admin("files", "get", "relay 2.4 ü%2F#.bin", status=1)
        self.admin("files", "put", "/nonexistent", status=2)
        self.assertIn("one segment", self.admin("files", "put", file, "--name", "a/b", status=1).err)

    def test_an_empty_file(self) -> None:
        self.assertEqual(self.json("files", "put", "/dev/null", "--name", "empty")["size"], 0)
        target = self.mktemp()
        self.admin("files", "get", "empty", "-o", target)
        self.assertEqual(Path(target).read_bytes(), b"")


class TroubleTests(BrokerCase):
    def test_a_wrong_token(self) -> None:
        wrong = {**self.variables, "BROKER_ADMIN_TOKEN": "wrong"}
        for line in (
            ("devices", "list"),
            ("stream",),
            ("files", "put", "/dev/null"),
            ("devices", "import", "/dev/null"),
        ):
            done = run(*line, variables=wrong)
            if line[1:2] == ("import",):
                continue  # nothing to send, so nothing was asked
            self.assertEqual(done.status, 1, line)
            self.assertEqual(done.out, "")
            self.assertIn("the token is not valid (401", done.err)
            self.assertEqual(len(done.err.splitlines()), 1, done.err)

    def test_the_token_file_goes_before_the_environment(self) -> None:
        file = self.mktemp()
        Path(file).write_text(self.broker.admin_token + "\n")
        wrong = {**self.variables, "BROKER_ADMIN_TOKEN": "wrong"}
        self.assertEqual(run("devices", "list", "--token-file", file, variables=wrong).status, 0)

    def test_an_application_has_no_say_here(self) -> None:
        made = self.broker.made("/applications", {"kind": "http", "id": "app"})
        token = {**self.variables, "BROKER_ADMIN_TOKEN": f"app:{made['secret']}"}
        self.assertEqual(run("devices", "list", variables=token).status, 0)
        self.assertIn("403", run("applications", "list", variables=token).err)

    def test_a_broker_that_is_down(self) -> None:
        broker = RealBroker(Path(self.mktemp()).absolute())
        broker.folder.mkdir()
        broker.start()
        self.addCleanup(broker.kill)
        variables = {
            "BROKER_ADMIN_API": f"http://127.0.0.1:{broker.ports['http']}",
            "BROKER_ADMIN_TOKEN": broker.admin_token,
        }
        self.assertEqual(run("status", variables=variables).status, 0)
        broker.kill()
        for line in (("status",), ("stream",), ("devices", "list", "--json"), ("files", "put", "/dev/null")):
            done = run(*line, variables=variables)
            self.assertEqual((done.status, done.out), (1, ""), line)
            self.assertIn("cannot reach", done.err)
            self.assertEqual(len(done.err.splitlines()), 1, done.err)

    def test_the_default_token_file(self) -> None:
        with environment():
            done = run("devices", "list", "--api", self.variables["BROKER_ADMIN_API"])
        self.assertEqual(done.status, 1)
        self.assertIn("no token", done.err)


class ProtocolTests(BrokerCase):
    def test_groups_of_motes(self) -> None:
        motes = ("70B3D57ED0000001", "70B3D57ED0000002")
        for mote in motes:
            self.json(
                *("devices", "add", "lorawan", "--id", mote, "--set", "join_eui=0000000000000001", "--set", "class=C")
            )
        made = self.json("lorawan-groups", "add", "--id", "street", "--name", "lamps", "--member", motes[0])
        self.assertEqual((made["members"], len(made["mc_app_s_key"])), (1, 32))
        self.assertNotIn(made["mc_app_s_key"], self.admin("lorawan-groups", "show", "street").out)
        self.assertIn(made["mc_app_s_key"], self.admin("lorawan-groups", "keys", "street").out)
        self.admin("lorawan-groups", "join", "street", motes[1])
        self.assertEqual([one["dev_eui"] for one in self.items("lorawan-groups", "members", "street")], list(motes))
        self.admin("lorawan-groups", "leave", "street", motes[0])
        self.assertEqual(self.json("lorawan-groups", "change", "street", "--name", "l")["name"], "l")
        sent = self.json("lorawan-groups", "send", "street", "--hex", "0102", "--port", "5", "--tries", "3")
        self.assertEqual(self.items("lorawan-groups", "messages", "street")[0]["id"], sent["id"])
        self.assertIn("0/3", self.admin("lorawan-groups", "messages", "street").out)
        message = self.json("lorawan-groups", "message", "street", sent["id"])
        self.assertEqual((message["payload_base64"], message["tries"]), ("AQI=", 3))
        self.assertIn("cancelled", self.admin("lorawan-groups", "cancel", "street", sent["id"]).out)
        self.assertIn("street", self.admin("lorawan-groups", "list").out)
        self.admin("lorawan-groups", "remove", "street", "--yes")
        self.admin("lorawan-groups", "show", "street", status=1)

    def test_motes(self) -> None:
        mote = "70B3D57ED0000009"
        self.json("devices", "add", "lorawan", "--id", mote, "--set", "join_eui=0000000000000001")
        self.assertIn("eui", self.admin("lorawan-motes", "show", mote).out)
        changed = self.json("lorawan-motes", "change", mote, "--set", "adr:=false")
        self.assertEqual((changed["dev_eui"], changed["set"]["adr"]), (mote, False))
        self.admin("lorawan-motes", "show", "nothing", status=1)

    def test_firmware_of_gizwits_devices(self) -> None:
        self.json("products", "add", "6f3074fe43894547a4f1314bd7e3ae0b", "gizwits")
        file = self.mktemp()
        Path(file).write_bytes(os.urandom(100_000))
        versions = ("--type", "wifi", "--hard-version", "000LINUX", "--soft-version", "04020007")
        made = self.json("gizwits-firmware", "put", file, "--product", "6f3074fe43894547a4f1314bd7e3ae0b", *versions)
        id = str(made["id"])
        self.assertEqual((made["size"], made["active"]), (100_000, False))
        self.assertIn("04020007", self.admin("gizwits-firmware", "list").out)
        self.assertTrue(self.json("gizwits-firmware", "change", id, "--set", "active:=true")["active"])
        self.assertTrue(self.json("gizwits-firmware", "show", id)["active"])
        self.admin("gizwits-firmware", "change", id, "--set", "active:=false")
        self.admin("gizwits-firmware", "remove", id, "--yes")
        self.assertEqual(self.items("gizwits-firmware", "list"), [])

    def test_who_is_connected(self) -> None:
        id, secret = self.device("there")
        device = Device(self.broker, id, secret)
        self.addCleanup(device.close)
        (found,) = self.items("connections", "--listener", "novacloud")
        self.assertIn(id, found["identity"])
        self.assertIn(id, self.admin("connections", id).out)
        self.assertIn("of 2", self.admin("connections", "--limit", "1").err)
