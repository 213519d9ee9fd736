"""Last values: whose key, which value is the last, and what has to be written."""

from twisted.trial.unittest import SynchronousTestCase

from broker.routing.values import MAX_KEYS, MAX_VALUE, LastValues

SENSORS = frozenset({"t", "h"})


class LastValuesTests(SynchronousTestCase):
    def test_without_a_product_every_key_is_a_value(self) -> None:
        values = LastValues()
        values.update({"t": 1, "x": {"a": [1]}, "": False}, 10.0)
        self.assertEqual(values.values, {"t": (1, 10.0), "x": ({"a": [1]}, 10.0), "": (False, 10.0)})
        self.assertEqual((values.unmapped, values.sensors), ({}, None))

    def test_with_a_product_others_are_unmapped(self) -> None:
        values = LastValues(sensors=SENSORS)
        values.update({"t": 1, "x": 2}, 10.0)
        self.assertEqual((values.values, values.unmapped), ({"t": (1, 10.0)}, {"x": (2, 10.0)}))
        self.assertEqual(values.changed, {"t", "x"})

    def test_a_product_without_sensors_maps_nothing(self) -> None:
        values = LastValues(sensors=frozenset())
        values.update({"t": 1}, 10.0)
        self.assertEqual((values.values, values.unmapped), ({}, {"t": (1, 10.0)}))

    def test_null_is_no_value(self) -> None:
        values = LastValues()
        values.update({"t": 1}, 10.0)
        values.changed.clear()
        values.update({"t": None, "x": None}, 20.0)
        self.assertEqual((values.values, values.changed), ({"t": (1, 10.0)}, set()))

    def test_falsy_values_are_values(self) -> None:
        values = LastValues()
        values.update({"a": 0, "b": False, "c": "", "d": [], "e": {}}, 10.0)
        self.assertEqual(len(values.values), 5)

    def test_values_of_any_size_do_not_stay(self) -> None:
        values = LastValues()
        values.update({"a": "x" * 1_000, "b": [1.5] * 100, "c": 1}, 10.0)
        kept = dict(values.values)
        self.assertEqual(len(kept), 3)
        long = "x" * MAX_VALUE
        values.update({"a": long, "b": [{}] * 10_000, "c": {"d": [long]}, "e": [[]] * 10_000}, 20.0)
        self.assertEqual(values.values, kept)

    def test_a_late_report_replaces_nothing_newer(self) -> None:
        for sensors in (None, SENSORS, frozenset[str]()):
            values = LastValues(sensors=sensors)
            values.update({"t": "new"}, 20.0)
            values.changed.clear()
            values.update({"t": "old", "h": "first"}, 10.0)
            known = values.values | values.unmapped
            self.assertEqual(known, {"t": ("new", 20.0), "h": ("first", 10.0)})
            self.assertEqual(values.changed, {"h"})

    def test_of_the_same_moment_the_later_counts(self) -> None:
        values = LastValues()
        values.update({"t": 1}, 10.0)
        values.update({"t": 2}, 10.0)
        self.assertEqual(values.values, {"t": (2, 10.0)})

    def test_keys_are_bounded_and_known_ones_go_on(self) -> None:
        values = LastValues(sensors=SENSORS)
        values.update({f"x{number}": number for number in range(MAX_KEYS + 10)}, 10.0)
        self.assertEqual(len(values.unmapped), MAX_KEYS)
        values.update({"t": 1, "x0": "again", "y": 1}, 11.0)
        self.assertEqual(values.values, {"t": (1, 11.0)})
        self.assertEqual(values.unmapped["x0"], ("again", 11.0))
        self.assertNotIn("y", values.unmapped)
        self.assertNotIn("y", values.changed)

    def test_remap_to_a_product_and_back(self) -> None:
        values = LastValues()
        values.update({"t": 1, "x": 2}, 10.0)
        values.changed.clear()
        values.remap(SENSORS)
        self.assertEqual((values.values, values.unmapped), ({"t": (1, 10.0)}, {"x": (2, 10.0)}))
        self.assertEqual((values.changed, values.sensors), ({"t", "x"}, SENSORS))
        values.remap(None)
        self.assertEqual((values.values, values.unmapped), ({"t": (1, 10.0), "x": (2, 10.0)}, {}))

    def test_a_key_on_both_sides_keeps_its_newer_reading(self) -> None:
        for old, new in ((1.0, 2.0), (2.0, 1.0)):
            values = LastValues({"t": ("v", old)}, {"t": ("u", new)})
            values.remap(SENSORS)
            self.assertEqual(values.values["t"][1], 2.0)
            self.assertEqual(values.unmapped, {})

    def test_what_storage_has_is_taken_as_it_is(self) -> None:
        values = LastValues({"t": (1, 10.0)}, {"x": (2, 10.0)}, SENSORS)
        self.assertEqual((values.values, values.unmapped), ({"t": (1, 10.0)}, {"x": (2, 10.0)}))
        self.assertEqual(values.changed, set())

    def test_a_product_that_changed_while_the_device_was_away(self) -> None:
        for sensors, mapped, unmapped in (
            (None, {"t", "x"}, set[str]()),
            (frozenset({"x"}), {"x"}, {"t"}),
            (frozenset[str](), set[str](), {"t", "x"}),
        ):
            values = LastValues({"t": (1, 10.0)}, {"x": (2, 10.0)}, sensors)
            self.assertEqual((set(values.values), set(values.unmapped)), (mapped, unmapped))
            self.assertEqual(values.changed, {"t", "x"})
