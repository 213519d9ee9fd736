"""The messages: each form they take, written once and kept."""

import json
from base64 import b64decode, b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.model import messages
from broker.model.jsontext import decode
from broker.model.messages import (
    FINAL_STATES,
    KINDS,
    OPEN_STATES,
    QUEUED,
    Command,
    DeviceRef,
    Payload,
    Presence,
    Reply,
    Uplink,
    payload_bytes,
    payload_member,
    payload_object,
)

AT = 1763700000.1234

#: bytes -> what a side that carries JSON objects gets.
BYTES_TO_OBJECT: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (b'{"a": 1}', {"a": 1}),
    (b" {} ", {}),
    (b'{"a":1,"a":2}', {"a": 2}),
    (b'{"big":123456789012345678901234567890}', {"big": 123456789012345678901234567890}),
    ('{"温度":"二十"}'.encode(), {"温度": "二十"}),
    (b"", {"base64": ""}),
    (b"[1]", {"base64": "WzFd"}),
    (b"1", {"base64": "MQ=="}),
    (b'"text"', {"base64": "InRleHQi"}),
    (b"null", {"base64": "bnVsbA=="}),
    (b'{"a":NaN}', {"base64": "eyJhIjpOYU59"}),
    (b"\xff\x00", {"base64": "/wA="}),
    (b'{"a":"\xff"}', {"base64": b64encode(b'{"a":"\xff"}').decode()}),
    (b'{"a":1', {"base64": "eyJhIjox"}),
    (b"[" * 100_000, {"base64": b64encode(b"[" * 100_000).decode()}),
    (b'{"a":' * 101 + b"1" + b"}" * 101, {"base64": b64encode(b'{"a":' * 101 + b"1" + b"}" * 101).decode()}),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class PayloadTests(SynchronousTestCase):
    """The table of what a payload becomes on a side that is not its own."""

    def test_bytes_become_an_object(self) -> None:
        for payload, wanted in BYTES_TO_OBJECT:
            self.assertEqual(payload_object(payload), wanted, payload[:40])

    def test_an_object_stays_the_same_object(self) -> None:
        payload = {"a": 1}
        self.assertIs(payload_object(payload), payload)

    def test_an_object_becomes_compact_utf8(self) -> None:
        self.assertEqual(payload_bytes({"温度": [1, 2.5, None, True]}), '{"温度":[1,2.5,null,true]}'.encode())

    def test_bytes_stay_the_same_bytes(self) -> None:
        payload = b"\x00\xff"
        self.assertIs(payload_bytes(payload), payload)

    def test_member(self) -> None:
        self.assertEqual(payload_member(b"\xff"), ("payload_base64", "/w=="))
        self.assertEqual(payload_member({"a": 1}), ("payload", {"a": 1}))

    @given(st.binary(max_size=200))
    def test_any_bytes_become_an_object_that_holds_them(self, payload: bytes) -> None:
        try:
            value = decode(payload)
        except ValueError:
            value = None
        shown = payload_object(payload)
        if isinstance(value, dict):
            self.assertEqual(shown, value)
        else:
            self.assertEqual(list(shown), ["base64"])
            self.assertEqual(b64decode(shown["base64"]), payload)

    @given(st.dictionaries(st.text(), json_values, max_size=4))
    def test_an_object_goes_there_and_back(self, payload: dict[str, Any]) -> None:
        self.assertEqual(payload_object(payload_bytes(payload)), payload)


class UplinkTests(SynchronousTestCase):
    def uplink(self, payload: Payload, kind: str = messages.DATA, **more: Any) -> Uplink:
        return Uplink(DeviceRef("novacloud", "d-1"), kind, payload, AT, **more)

    def test_json_of_an_object(self) -> None:
        self.assertEqual(
            self.uplink({"t": 21.5}).as_json(),
            b'{"device":"d-1","protocol":"novacloud","kind":"data","at":1763700000.123,"payload":{"t":21.5}}',
        )

    def test_json_of_bytes(self) -> None:
        self.assertEqual(
            self.uplink(b"\xff\x00", messages.RAW).as_json(),
            b'{"device":"d-1","protocol":"novacloud","kind":"raw","at":1763700000.123,"payload_base64":"/wA="}',
        )

    def test_meta(self) -> None:
        for meta, sent_at, wanted in (
            (None, None, None),
            ({"port": 2}, None, {"port": 2}),
            (None, 5.5, {"sent_at": 5.5}),
            ({"port": 2}, 5.5, {"port": 2, "sent_at": 5.5}),
            ({}, None, {}),
        ):
            uplink = self.uplink({}, meta=meta, sent_at=sent_at)
            self.assertEqual(uplink.full_meta(), wanted)
            self.assertEqual(json.loads(uplink.as_json()).get("meta"), wanted)

    def test_what_is_kept_of_the_message_before_is_not_told_of_this_one(self) -> None:
        device = DeviceRef("novacloud", "d-1")
        for kind, at, sent_at in (
            ("data", 10.0, 9.0),
            ("data", 10.0, 9.5),
            ("status", 11.0, 9.5),
            ("data", 11.0, None),
            ("data", 11.0, 0.0),
            ("made-up", 11.0, 9.5),
        ):
            said = json.loads(Uplink(device, kind, {"n": at}, at, sent_at).as_json())
            wanted = {"device": "d-1", "protocol": "novacloud", "kind": kind, "at": at, "payload": {"n": at}}
            self.assertEqual(said, wanted if sent_at is None else {**wanted, "meta": {"sent_at": sent_at}})

    def test_the_given_meta_is_not_changed(self) -> None:
        meta = {"port": 2}
        self.uplink({}, meta=meta, sent_at=1.0).as_json()
        self.assertEqual(meta, {"port": 2})

    def test_every_kind_is_json(self) -> None:
        for kind in KINDS:
            self.assertEqual(json.loads(self.uplink({}, kind).as_json())["kind"], kind)

    def test_names_are_escaped(self) -> None:
        awkward = 'a"b\\c\n\u2028é'
        uplink = Uplink(DeviceRef("p", awkward), messages.DATA, {awkward: awkward}, AT)
        read = json.loads(uplink.as_json())
        self.assertEqual(read["device"], awkward)
        self.assertEqual(read["payload"], {awkward: awkward})

    def test_each_form_is_written_once(self) -> None:
        encoded: list[object] = []

        def count(value: object) -> bytes:
            encoded.append(value)
            return b"{}"

        device = DeviceRef("p", "d")
        self.patch(messages, "encode", count)
        uplink = Uplink(device, messages.DATA, {"a": 1}, AT)
        self.assertEqual(encoded, [])
        self.assertIs(uplink.as_json(), uplink.as_json())
        self.assertEqual(encoded, [{"a": 1}])
        self.assertIs(uplink.as_bytes(), uplink.as_bytes())
        self.assertEqual(len(encoded), 2)

    def test_bytes_pass_through(self) -> None:
        payload = b"\x00\x01"
        self.assertIs(self.uplink(payload).as_bytes(), payload)
        self.assertEqual(self.uplink({"a": 1}).as_bytes(), b'{"a":1}')

    def test_integers_of_any_size(self) -> None:
        payload = {"a": 2**64, "b": -(2**70), "c": 10**300}
        self.assertEqual(json.loads(self.uplink(payload).as_json())["payload"], payload)

    def test_what_json_cannot_hold_is_a_value_error(self) -> None:
        for wrong in ({"a": object()}, {"a": "\ud800"}, {(1,): 1}):
            with self.assertRaises(ValueError):
                self.uplink(wrong).as_json()  # type: ignore[arg-type]  # wrong on purpose

    def test_repr_leaves_the_payload_out(self) -> None:
        self.assertEqual(repr(self.uplink({"a": "private"})), "<Uplink data of d-1>")
        self.assertEqual(repr(DeviceRef("lorawan", "x")), "<lorawan device x>")


class PresenceTests(SynchronousTestCase):
    def test_json(self) -> None:
        device = DeviceRef("novacloud", "d-1")
        self.assertEqual(
            Presence(device, True, "connected", AT).as_json(),
            b'{"device":"d-1","protocol":"novacloud","online":true,"reason":"connected","at":1763700000.123}',
        )
        self.assertEqual(json.loads(Presence(device, False, "idle", AT).as_json())["online"], False)

    def test_written_once(self) -> None:
        presence = Presence(DeviceRef("p", "d"), False, "idle", AT)
        self.assertIs(presence.as_json(), presence.as_json())


class CommandTests(SynchronousTestCase):
    def command(self, payload: Payload, **more: Any) -> Command:
        return Command("c-1", "d-1", "novacloud", payload, "admin", 100.0, 3700.0, **more)

    def test_shape(self) -> None:
        self.assertEqual(
            self.command({"on": True}, ref="r").as_dict(),
            {
                "id": "c-1",
                "ref": "r",
                "device": "d-1",
                "status": "queued",
                "payload": {"on": True},
                "result": None,
                "created_at": 100.0,
                "updated_at": 100.0,
                "expires_at": 3700.0,
                "late": [],
            },
        )

    def test_bytes_are_base64(self) -> None:
        shape = self.command(b"\xff").as_dict()
        self.assertEqual(shape["payload_base64"], "/w==")
        self.assertNotIn("payload", shape)

    def test_reply(self) -> None:
        command = self.command({}, ref='"')
        command.status, command.result, command.updated_at = messages.FAILED, {"error": "x"}, 101.23456
        self.assertEqual(
            command.reply_json(),
            b'{"id":"c-1","ref":"\\"","status":"failed","result":{"error":"x"},"at":101.235}',
        )

    def test_it_begins_queued_until_it_expires(self) -> None:
        command = self.command({})
        self.assertEqual((command.status, command.deadline, command.final), (QUEUED, 3700.0, False))

    def test_states_are_open_or_final(self) -> None:
        self.assertEqual(OPEN_STATES & FINAL_STATES, frozenset())
        command = self.command({})
        for state in OPEN_STATES | FINAL_STATES:
            command.status = state
            self.assertEqual(command.final, state in FINAL_STATES)

    def test_options_and_late_are_its_own(self) -> None:
        options = {"force": True}
        one, two = self.command({}, options=options), self.command({}, options=options)
        one.options["force"] = False
        one.late.append({})
        self.assertEqual((two.options, two.late, options), ({"force": True}, [], {"force": True}))

    def test_repr_leaves_the_payload_out(self) -> None:
        self.assertEqual(repr(self.command({"pin": 1234})), "<Command c-1 to d-1: queued>")

    def test_reply_holds_what_it_was_given(self) -> None:
        reply = Reply("c-1", messages.SUCCEEDED, [1], 5.0)
        self.assertEqual(
            (reply.command_id, reply.status, reply.payload, reply.received_at), ("c-1", messages.SUCCEEDED, [1], 5.0)
        )
