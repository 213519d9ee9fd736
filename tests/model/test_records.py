"""The registry's records: no secret in what they look like, no two share what can be changed."""

from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import BrokerError, LimitExceeded
from broker.model.names import CLOSE_REASONS, DROP_REASONS, PRESENCE_REASONS
from broker.model.records import Actuator, ApplicationRecord, DeviceRecord, Product, Sensor


class RecordTests(SynchronousTestCase):
    def test_repr_hides_secrets(self) -> None:
        device = DeviceRecord(id="d", protocol="lorawan", secret="hush", attributes={"app_key": "hush"})
        application = ApplicationRecord(id="a", kind="loracenter", secret="hush", app_key="hush", cs_eui="01")
        for record in (device, application):
            for shown in (repr(record), str(record), f"{record}", repr([record])):
                self.assertNotIn("hush", shown)

    def test_no_shared_defaults(self) -> None:
        one, two = DeviceRecord(id="1", protocol="p"), DeviceRecord(id="2", protocol="p")
        one.attributes["a"] = one.info["b"] = 1
        self.assertEqual((two.attributes, two.info), ({}, {}))

    def test_ref(self) -> None:
        ref = DeviceRecord(id="d", protocol="p").ref()
        self.assertEqual((ref.protocol, ref.id), ("p", "d"))

    def test_keys_of_a_product(self) -> None:
        product = Product(
            key="k",
            name="K",
            protocol="p",
            sensors=(Sensor("t", "Temperature", "C"), Sensor("h")),
            actuators=(Actuator("switch"),),
        )
        self.assertEqual(product.value_keys, {"t", "h"})
        self.assertEqual(product.command_keys, {"switch"})


class ErrorTests(SynchronousTestCase):
    def test_every_kind_has_its_own_slug(self) -> None:
        kinds = [kind for kind in BrokerError.__subclasses__() if kind.__module__ == BrokerError.__module__]
        self.assertEqual(len({kind.slug for kind in kinds}), len(kinds))
        self.assertNotIn(BrokerError.slug, {kind.slug for kind in kinds})

    def test_details(self) -> None:
        error = LimitExceeded("full", limit="commands.max_queued")
        self.assertEqual((error.message, str(error), error.details), ("full", "full", {"limit": "commands.max_queued"}))


class NamesTests(SynchronousTestCase):
    def test_names_are_words_with_a_sentence(self) -> None:
        for catalogue in (CLOSE_REASONS, DROP_REASONS, PRESENCE_REASONS):
            for name, meaning in catalogue.items():
                self.assertRegex(name, r"\A[a-z]+(_[a-z]+)*\Z")
                self.assertTrue(meaning)

    def test_a_presence_reason_means_one_thing(self) -> None:
        self.assertEqual(set(CLOSE_REASONS) & set(PRESENCE_REASONS), set())
