"""What a mote's registration may say."""

from __future__ import annotations

from typing import Any, get_args

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.identity import DeviceRules, Identity, canonical_eui
from broker.devices.lorawan.regions import REGIONS
from broker.devices.lorawan.settings import RegionName
from broker.model.errors import Invalid
from broker.storage.forms import changed_device, new_device
from tests.devices.lorawan.bed import APP_KEY, APP_S_KEY, JOIN_EUI, NWK_S_KEY

EUI = "AA00000000000001"
OTAA = {"protocol": "lorawan", "id": EUI, "join_eui": JOIN_EUI, "app_key": APP_KEY}
ABP = {"protocol": "lorawan", "id": EUI, "dev_addr": "26011bda", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
RULES = {"lorawan": DeviceRules()}


class RegistrationTests(SynchronousTestCase):
    def test_euis(self) -> None:
        for text in ("aa00000000000001", " AA00000000000001 ", "AA:00:00:00:00:00:00:01", "aa-00-00-00-00-00-00-01"):
            self.assertEqual(canonical_eui(text), EUI, text)
        for text in ("", "AA", "0xAA00000000000001", "AA:00-00:00:00:00:00:01", "GG00000000000001", EUI + "0"):
            self.assertIsNone(canonical_eui(text), text)

    def test_otaa(self) -> None:
        record, secret, made = new_device({**OTAA, "class": "C", "region": "as923"}, RULES, 1.0)
        self.assertEqual((record.id, secret, made), (EUI, APP_KEY, False))
        self.assertNotIn("app_key", record.attributes)
        identity = Identity(record)
        self.assertEqual((identity.join_eui, identity.app_key.hex().upper()), (int(JOIN_EUI, 16), APP_KEY))
        self.assertEqual((identity.class_c, identity.region, identity.abp), (True, REGIONS["as923"], None))
        self.assertNotIn(APP_KEY, repr(record) + repr(identity))

    def test_an_app_key_is_made(self) -> None:
        record, secret, made = new_device({**OTAA, "app_key": None}, RULES, 1.0)
        self.assertTrue(made)
        self.assertEqual(Identity(record).app_key, bytes.fromhex(secret))
        self.assertEqual(len(secret), 32)

    def test_abp(self) -> None:
        identity = Identity(new_device(ABP, RULES, 1.0)[0])
        assert identity.abp is not None
        self.assertEqual(identity.abp.dev_addr, 0x26011BDA)
        self.assertEqual(identity.abp.app_s_key.hex().upper(), APP_S_KEY)

    def test_refusals(self) -> None:
        rows: list[dict[str, Any]] = [
            {**OTAA, "id": "roof"},
            {**OTAA, "id": None},
            {**OTAA, "join_eui": None},
            {**OTAA, "join_eui": "7"},
            {**OTAA, "join_eui": 7},
            {**OTAA, "app_key": "7"},
            {**OTAA, "secret": APP_KEY},
            {**OTAA, "class": "B"},
            {**OTAA, "class": None},
            {**OTAA, "region": "eu433"},
            {**OTAA, "region": "eu868", "rx2_rate": 12},
            {**OTAA, "region": "us915", "channels": [903_900_000]},
            {**OTAA, "colour": "red"},
            {**OTAA, **ABP},
            {**ABP, "dev_addr": None},
            {**ABP, "nwk_s_key": NWK_S_KEY + "0"},
        ]
        for fields in rows:
            error = self.assertRaises(Invalid, new_device, fields, RULES, 1.0)
            self.assertNotIn(APP_KEY, error.message)

    def test_changes(self) -> None:
        record = new_device(OTAA, RULES, 1.0)[0]
        changed, made = changed_device(record, {"app_key": "0" * 32, "class": "C"}, RULES)
        self.assertEqual((changed.secret, made, changed.attributes["class"]), ("0" * 32, None, "C"))
        abp = {name: ABP[name] for name in ("dev_addr", "nwk_s_key", "app_s_key")}
        self.assertRaises(Invalid, changed_device, record, abp, RULES)
        moved, _ = changed_device(record, {**abp, "join_eui": None}, RULES)
        self.assertIsNotNone(Identity(moved).abp)

    def test_regions_of_settings_and_tables_are_the_same(self) -> None:
        self.assertEqual(set(get_args(RegionName)), set(REGIONS))
