"""Wills from CONNECT to their publication, in particular those that outlive the server."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Unavailable
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from tests.mqtt.fakes import Bench, Client, publishes

TOPIC = "will/leaver"
GONE = ("will/leaver", b"gone", 1)


class Case(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.bench = Bench(**self.settings)
        self.journal = self.bench.journal
        self.watcher = self.bench.resume("watcher", "w", clean=False)[0]
        self.watcher.subscribe("will/#", qos=1)

    def will(self, delay: int = 0, **fields: Any) -> p.Will:
        properties: p.Properties = {props.WILL_DELAY_INTERVAL: delay} if delay else {}
        properties |= fields.pop("properties", {})
        return p.Will(TOPIC, b"gone", 1, properties=properties or None, **fields)

    def leaver(self, delay: int = 0, expiry: int = 0, version: int = p.MQTT_5, clean: bool = True) -> Client:
        properties = {props.SESSION_EXPIRY_INTERVAL: expiry} if expiry else None
        will = self.will(delay)
        return self.bench.resume(
            "leaver", will=will, version=version, clean=clean, properties=properties if version == p.MQTT_5 else None
        )[0]

    def heard(self) -> list[tuple[str, bytes, int]]:
        return publishes(self.watcher.got())

    def crash(self) -> None:
        """Another server; the watcher is back."""
        self.bench.restart()
        self.watcher = self.bench.resume("watcher", "w", clean=False)[0]


class OnDisk(Case):
    def test_before_connack(self) -> None:
        self.journal.held = True
        client = self.leaver()
        self.assertEqual(client.got(), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(client.connection.identity, "u (leaver)")
        (found,) = self.successResultOf(self.journal.load_wills())
        self.assertEqual((found.owner, found.client_id, found.topic, found.payload), ("u", "leaver", TOPIC, b"gone"))

    def test_only_where_there_is_one(self) -> None:
        self.journal.held = True
        client = self.bench.open()
        self.assertEqual(client.ask(p.Connect("c", user="u", password=b"secret")), [p.ConnAck(0)])

    def test_it_cannot_be_kept(self) -> None:
        self.journal.held = True
        for version, code in ((p.MQTT_3_1_1, p.REFUSED_UNAVAILABLE), (p.MQTT_5, r.SERVER_UNAVAILABLE)):
            client = self.bench.open(version=version)
            client.send(p.Connect("leaver", version, user="u", password=b"secret", will=self.will()))
            self.journal.fail(Unavailable("the disk is full"))
            self.bench.flush()
            self.assertEqual([one.code for one in client.got() if isinstance(one, p.ConnAck)], [code])
            self.assertEqual(client.closed, "unavailable")
            client.lose()
        self.journal.held = False
        self.journal.commit()
        self.assertEqual((self.heard(), self.journal.wills), ([], {}))

    def test_gone_before_it_was_accepted(self) -> None:
        self.journal.held = True
        client = self.leaver()
        client.lose()
        self.journal.held = False
        self.journal.commit()
        self.assertEqual((self.heard(), self.journal.wills), ([], {}))

    def test_an_earlier_batch_is_not_its_own(self) -> None:
        self.journal.held = True
        client = self.bench.open()
        client.send(p.Connect("leaver", user="u", password=b"secret", will=self.will()))
        for waiter in list(self.bench.server._to_be_told):
            waiter.settled(self.journal.position - 1, Unavailable("another's"))
        self.assertEqual(client.got(), [])
        self.journal.commit()
        self.bench.flush()
        self.assertEqual(client.got(), [p.ConnAck(0)])

    def test_nothing_is_left(self) -> None:
        for last in (p.Disconnect(), p.Disconnect(r.DISCONNECT_WITH_WILL), b"", b"\x00\x00"):
            client = self.leaver()
            self.assertEqual(len(self.journal.wills), 1)
            client.send(last)
            client.lose()
            self.bench.flush()
            self.assertEqual(self.journal.wills, {})


class AfterACrash(Case):
    settings = {"will_grace": 3.0}

    def test_of_every_session(self) -> None:
        variants: tuple[dict[str, Any], ...] = (
            {"version": p.MQTT_3_1_1},
            {"version": p.MQTT_3_1_1, "clean": False},
            {},
            {"expiry": 60},
            {"delay": 30},  # no session is left that could last as long
            {"delay": 30, "version": p.MQTT_5, "expiry": 1},
        )
        for fields in variants:
            self.leaver(**fields)
            self.crash()
            if fields.get("expiry") != 1:
                self.bench.pass_time(2)
                self.assertEqual(self.heard(), [], fields)
            self.bench.pass_time(2)
            self.assertEqual(self.heard(), [GONE], fields)
            self.assertEqual(self.journal.wills, {})

    def test_properties_qos_and_retain(self) -> None:
        properties: p.Properties = {props.CONTENT_TYPE: "t", props.USER_PROPERTY: [("a", "b"), ("a", "c")]}
        will = self.will(retain=True, properties={**properties, props.MESSAGE_EXPIRY_INTERVAL: 9})
        self.bench.connect("leaver", version=p.MQTT_5, will=will)
        self.crash()
        self.bench.pass_time(4)
        self.assertEqual(self.heard(), [GONE])
        late = self.bench.connect("late", version=p.MQTT_5)
        (_, found) = late.ask(p.Subscribe(1, [("will/#", 2)]))
        assert isinstance(found, p.Publish)
        self.assertEqual((found.retain, found.qos), (True, 1))
        self.assertEqual(found.properties, {**properties, props.MESSAGE_EXPIRY_INTERVAL: 9})

    def test_its_delay_goes_on(self) -> None:
        self.leaver(30, 600).lose()
        self.bench.pass_time(20)
        self.crash()
        self.bench.pass_time(9)
        self.assertEqual(self.heard(), [])
        self.bench.pass_time(2)
        self.assertEqual((self.heard(), self.journal.wills), ([GONE], {}))

    def test_its_delay_begins(self) -> None:
        self.leaver(30, 600)
        self.crash()
        self.bench.pass_time(29)
        self.assertEqual(self.heard(), [])
        self.bench.pass_time(2)
        self.assertEqual(self.heard(), [GONE])

    def test_its_session_ends_first(self) -> None:
        self.leaver(600, 20)
        self.crash()
        self.bench.pass_time(19)
        self.assertEqual(self.heard(), [])
        self.bench.pass_time(2)
        self.assertEqual((self.heard(), self.journal.wills), ([GONE], {}))

    def test_the_client_is_back_in_time(self) -> None:
        self.leaver(30, 600)
        self.crash()
        self.leaver(0, 600, clean=False).send(p.Disconnect())
        self.bench.pass_time(40)
        self.assertEqual((self.heard(), self.journal.wills), ([], {}))

    def test_the_client_is_back_for_one_without_a_delay(self) -> None:
        """The standard wants it published, and it comes before anything that the client says now."""
        for clean, expiry in ((True, 0), (False, 600)):
            self.leaver(0, expiry, clean=clean)
            self.crash()
            client = self.leaver(0, expiry, clean=clean)
            client.send(p.Publish(TOPIC, b"alive", 1, 1))
            self.assertEqual(self.heard(), [GONE, (TOPIC, b"alive", 1)])
            client.send(p.Disconnect())
            self.bench.pass_time(5)
            self.assertEqual((self.heard(), self.journal.wills), ([], {}))

    def test_a_clean_start_ends_the_session(self) -> None:
        self.leaver(30, 600)
        self.crash()
        self.leaver(clean=True).send(p.Disconnect())
        self.assertEqual((self.heard(), self.journal.wills), ([GONE], {}))

    def test_rights_are_asked_for_again(self) -> None:
        self.leaver()
        self.crash()
        self.bench.identities.principal("u").forbidden.add(TOPIC)
        self.bench.pass_time(4)
        self.assertEqual((self.heard(), self.journal.wills), ([], {}))
        self.assertEqual(self.bench.stats.dropped, {"not_allowed": 1})

    def test_nobody_has_that_name_any_more(self) -> None:
        self.leaver()
        self.crash()
        del self.bench.identities.principals["u"]
        self.bench.pass_time(4)
        self.assertEqual((self.heard(), self.journal.wills), ([], {}))
        self.assertEqual(self.bench.stats.dropped, {"not_allowed": 1})

    def test_somebody_who_takes_it_over(self) -> None:
        taken: list[Any] = []
        self.leaver()
        self.crash()
        self.bench.identities.principal("u").takers[TOPIC] = lambda *arguments: taken.append(arguments)
        self.bench.pass_time(4)
        ((payload, qos, properties, done),) = taken
        self.assertEqual((payload, qos, properties, len(self.journal.wills)), (b"gone", 1, None, 1))
        done(None)
        self.assertEqual(self.journal.wills, {})

    def test_storage_does_not_know_who_it_was(self) -> None:
        self.leaver()
        self.crash()
        self.bench.identities.answer = fail(Unavailable("locked"))
        self.bench.pass_time(4)
        self.assertEqual((self.heard(), len(self.journal.wills)), ([], 1))
        self.bench.identities.answer = None
        self.bench.pass_time(6)
        self.assertEqual((self.heard(), self.journal.wills), ([GONE], {}))

    def test_a_fault_behind_it_is_logged(self) -> None:
        self.leaver()
        self.crash()
        self.bench.identities.answer = fail(ZeroDivisionError())
        self.bench.pass_time(4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.bench.identities.answer = Deferred()
        self.bench.pass_time(6)
        self.assertEqual(len(self.journal.wills), 1)

    def test_numbers_go_on(self) -> None:
        self.leaver(600, 900)
        self.crash()
        self.bench.connect("other", will=self.will())
        self.assertEqual(len(self.journal.wills), 2)


class TakenOver(Case):
    def test_with_a_delay_it_is_void(self) -> None:
        """[MQTT-3.1.3-9]: the client is there again before the delay is over."""
        old = self.leaver(5, 600)
        new = self.leaver(0, 600, clean=False)
        self.assertEqual(old.closed, "takeover")
        old.lose()
        self.bench.pass_time(10)
        self.assertEqual((self.heard(), new.closed), ([], None))
        self.assertEqual(len(self.journal.wills), 1)

    def test_without_it_is_published(self) -> None:
        old = self.leaver(0, 600)
        self.leaver(0, 600, clean=False)
        old.lose()
        self.assertEqual(self.heard(), [GONE])
        self.assertEqual(len(self.journal.wills), 1)
