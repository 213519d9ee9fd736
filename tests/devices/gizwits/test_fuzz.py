"""Whatever a device sends: its documented end, and nothing of another device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gizwits import DeviceSettings
from broker.devices.gizwits import codec as g
from broker.devices.gizwits.apps_online import AppsOnline
from broker.devices.gizwits.errors import Refused
from broker.devices.gizwits.forms import form_of
from broker.devices.gizwits.ota import versions
from broker.devices.gizwits.principal import DevicePrincipal
from broker.devices.gizwits.switches import USUAL
from broker.model.names import CLOSE_REASONS
from broker.model.records import DeviceRecord
from broker.mqtt.terms import Watched
from broker.routing.live import LiveDevices
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.storage.identity import Login
from tests.devices.gizwits.bed import DID, OTHER, PRODUCT, Listening
from tests.devices.gizwits.test_codec import anything, business, system

topics = st.sampled_from(
    [
        f"dev2app/{DID}",
        f"dev2app/{DID}/broker",
        f"dev2app/{DID}/usr1",
        "ser2cli_req",
        "cli2ser_req",
    ]
)
foreign = st.sampled_from(
    [f"dev2app/{OTHER}", f"dev2app/{OTHER}/usr1", f"app2dev/{DID}/x", "dev2app", "", "free", "$SYS/x"]
)
payloads = anything | business.map(g.encode) | system.map(g.encode)


class Stage:
    """A device's principal with nothing but a clock behind it."""

    def __init__(self) -> None:
        clock = Clock()
        self.faults: list[Any] = []
        router = Router(lambda what, error: self.faults.append(error))
        self.heard = Listening()
        router.listen(self.heard)
        self.replies: list[Any] = []
        self.closed: list[str] = []
        self.pushed: list[str] = []
        core: Any = SimpleNamespace(
            reactor=clock,
            clock=clock.seconds,
            router=router,
            devices=LiveDevices(router, clock.seconds),
            topics=TopicIndex(),
            commands=SimpleNamespace(reply=lambda did, reply: self.replies.append((did, reply.command_id))),
        )
        waiting = {(DID, 0): "mine", (OTHER, 0): "another's"}
        side: Any = SimpleNamespace(
            core=core,
            settings=DeviceSettings(),
            online=AppsOnline(lambda did, payload: self.pushed.append(did)),
            acknowledged=lambda did, sn: waiting.pop((did, sn), None),
            take_news=lambda did: {},
            subscribed=lambda did: None,
        )
        record = DeviceRecord(id=DID, protocol="gizwits", product=PRODUCT)
        self.principal = DevicePrincipal(side, Login(record, None, {}, {}), USUAL)
        self.principal.connected(self.closed.append)


class DeviceTests(SynchronousTestCase):
    @given(st.lists(st.tuples(topics, payloads), max_size=12))
    @settings(max_examples=300)
    def test_what_it_publishes(self, said: list[tuple[str, bytes]]) -> None:
        stage = Stage()
        wrong = worst = 0
        for topic, payload in said:
            watched = stage.principal.publisher(topic)
            assert isinstance(watched, Watched)
            good = watched.look(payload)
            self.assertIsInstance(good, bool)
            wrong = 0 if good else wrong + 1
            worst = max(worst, wrong)
        self.assertEqual(stage.faults, [])
        self.assertEqual(bool(stage.closed), worst >= 3)
        self.assertLessEqual(set(stage.closed), set(CLOSE_REASONS))
        self.assertLessEqual({device for device, *_ in stage.heard.uplinks}, {DID})
        self.assertLessEqual({kind for _, kind, *_ in stage.heard.uplinks}, {"raw", "log"})
        self.assertLessEqual(set(stage.replies), {(DID, "mine")})
        self.assertLessEqual(set(stage.pushed), {DID})

    @given(foreign | st.text(max_size=40))
    def test_where_it_publishes(self, topic: str) -> None:
        allowed = topic.removesuffix("/") in ("ser2cli_req", "cli2ser_req") or topic.startswith(f"dev2app/{DID}")
        answer = Stage().principal.publisher(topic)
        self.assertTrue(allowed or answer is False)

    @given(foreign | st.text("ser2cli_noapdv/#+" + DID, max_size=60))
    def test_where_it_subscribes(self, topic_filter: str) -> None:
        granted = {f"ser2cli_res/{DID}", f"app2dev/{DID}/#", f"ser2cli_noti/{PRODUCT}"}
        self.assertEqual(Stage().principal.may_subscribe(topic_filter), topic_filter in granted)


class FormTests(SynchronousTestCase):
    @given(st.binary(max_size=200) | st.text("did=&passcode%41+\r\n", max_size=60).map(str.encode))
    def test_forms(self, body: bytes) -> None:
        try:
            fields = form_of(body)
        except Refused:
            return
        self.assertTrue(all(isinstance(value, str) for value in fields.values()))

    @given(st.dictionaries(st.sampled_from(["type", "hard_version", "soft_version"]), st.text(max_size=40)))
    def test_versions(self, given: dict[str, str]) -> None:
        try:
            kind, hard, soft = versions(given)
        except Refused:
            return
        self.assertIn(kind, (1, 2))
        self.assertTrue(hard.isprintable() and soft.isprintable())
