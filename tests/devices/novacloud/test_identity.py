"""Decisions 1, 18 and 19: ids, keys and the two forms of the auth message."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud.codec import Message
from broker.devices.novacloud.identity import DeviceRules, canonical_id, credentials
from broker.model.errors import Invalid
from tests.devices.novacloud.bed import DEVICE, KEY

SAME = [
    DEVICE,
    DEVICE.upper(),
    f"{{{DEVICE}}}",
    f"urn:uuid:{DEVICE}",
    f"URN:UUID:{DEVICE.upper()}",
    DEVICE.replace("-", ""),
    f" {DEVICE}\n",
]
NOT_UUIDS = [
    "",
    "device-1",
    DEVICE[:-1],
    DEVICE + "0",
    DEVICE.replace("-", "_"),
    DEVICE.replace("5", "g"),
    "+" + DEVICE[1:],
    DEVICE.replace("550e", "55０e"),
    "5" * 100_000,
    "550e8400e29b-41d4-a716-446655440000",
]


class IdTests(SynchronousTestCase):
    def test_forms_of_one_id(self) -> None:
        for text in SAME:
            self.assertEqual(canonical_id(text), DEVICE, text)

    def test_no_uuid(self) -> None:
        for text in NOT_UUIDS:
            self.assertIsNone(canonical_id(text), text[:80])


class RulesTests(SynchronousTestCase):
    def test_id(self) -> None:
        rules = DeviceRules()
        self.assertEqual(rules.normal_id(DEVICE.upper(), {}), DEVICE)
        self.assertRaises(Invalid, rules.normal_id, "device-1", {})

    def test_made_ids_are_uuids(self) -> None:
        made = {DeviceRules().normal_id(None, {}) for _ in range(10)}
        self.assertEqual(len(made), 10)
        for text in made:
            self.assertEqual(str(UUID(text)), text)

    def test_made_secrets(self) -> None:
        made = {DeviceRules().make_secret() for _ in range(10)}
        self.assertEqual(len(made), 10)
        for secret in made:
            self.assertRegex(secret, "^[0-9a-f]{64}$")

    def test_secrets_are_opaque(self) -> None:
        rules = DeviceRules()
        for secret in ("x", "密" * 256, KEY):
            rules.check_secret(secret)
        for secret in ("", "x" * 257):
            self.assertRaises(Invalid, rules.check_secret, secret)
        self.assertTrue(rules.hashed)


class CredentialsTests(SynchronousTestCase):
    def test_nested(self) -> None:
        found = credentials(Message(type="auth", payload={"device_id": DEVICE.upper(), "device_key": KEY}), True)
        self.assertEqual((found.device_id, found.key, found.flat), (DEVICE, KEY, False))

    def test_flat(self) -> None:
        found = credentials(Message(type="auth", device_id=DEVICE, device_key=KEY), True)
        self.assertEqual((found.device_id, found.key, found.flat), (DEVICE, KEY, True))

    def test_flat_switched_off(self) -> None:
        self.assertRaises(Invalid, credentials, Message(type="auth", device_id=DEVICE, device_key=KEY), False)

    def test_nested_wins(self) -> None:
        message = Message(type="auth", payload={"device_id": DEVICE, "device_key": KEY}, device_id="x", device_key="y")
        self.assertEqual(credentials(message, True).flat, False)

    def test_the_key_does_not_show(self) -> None:
        self.assertNotIn(KEY, repr(credentials(Message(type="auth", device_id=DEVICE, device_key=KEY), True)))

    def test_no_uuid_is_nobody(self) -> None:
        """It is refused like a wrong key, not for its form."""
        for text in NOT_UUIDS:
            found = credentials(Message(type="auth", payload={"device_id": text, "device_key": KEY}), True)
            self.assertEqual(found.device_id, "")

    def test_impossible_keys_are_nobodys(self) -> None:
        for key in ("", "x" * 257):
            found = credentials(Message(type="auth", payload={"device_id": DEVICE, "device_key": key}), True)
            self.assertEqual((found.device_id, found.key), ("", ""))

    def test_wrong_types(self) -> None:
        wrong: list[Any] = [None, 5, 1.5, True, [], {}, [DEVICE]]
        for value in wrong:
            for payload in (
                {"device_id": value, "device_key": KEY},
                {"device_id": DEVICE, "device_key": value},
            ):
                self.assertRaises(Invalid, credentials, Message(type="auth", payload=payload), True)
            self.assertRaises(Invalid, credentials, Message(type="auth", device_id=DEVICE, device_key=value), True)
            self.assertRaises(Invalid, credentials, Message(type="auth", device_id=value, device_key=KEY), True)
        for value in ("x", 5, [1], True):
            message = Message(type="auth", payload=value, device_id=DEVICE, device_key=KEY)
            self.assertRaises(Invalid, credentials, message, True)
        self.assertRaises(Invalid, credentials, Message(type="auth", payload={}), True)
