"""Presence that does not lie: what becomes an event, and what does not."""

from __future__ import annotations

from broker.events.presence import ALIVE_EVERY
from broker.events.settings import EventsTable
from broker.events.verdict import FOLD_LOOK, PARENT_PATIENCE
from broker.storage.identity import Change
from tests.events.bed import START, EventBed, Lora

OFFLINE = EventsTable().offline_after
DEBOUNCE = EventsTable().debounce
GRACE = EventsTable().restart_grace
WINDOW = EventsTable().flap_window


class OfflineTests(EventBed):
    def test_away_for_longer_than_allowed(self) -> None:
        self.device("d1", name="greenhouse")
        self.go("d1")
        self.pass_time(OFFLINE - 1)
        self.assertEqual(self.kinds, [])
        self.pass_time(2)
        (event,) = self.told
        self.assertEqual((event.kind, event.device, event.protocol), ("device_offline", "d1", "novacloud"))
        self.assertEqual(
            event.details,
            {"name": "greenhouse", "since": START, "reason": "connection_lost", "offline_for": OFFLINE},
        )
        self.pass_time(3 * OFFLINE)
        self.assertEqual(len(self.told), 1)

    def test_back_in_time_is_nothing(self) -> None:
        self.device("d1")
        self.go("d1")
        self.pass_time(OFFLINE - 5)
        self.come("d1")
        self.pass_time(5 * OFFLINE)
        self.assertEqual(self.kinds, [])

    def test_it_costs_nothing_once_all_is_well(self) -> None:
        self.device("d1")
        self.go("d1")
        self.pass_time(5)
        self.come("d1")
        self.assertEqual(self.side.watch.open_stories, 1)
        self.pass_time(WINDOW + 5)
        self.assertEqual(self.side.watch.open_stories, 0)

    def test_back_counts_after_the_debounce(self) -> None:
        self.device("d1")
        self.go("d1")
        self.pass_time(OFFLINE + 1)
        self.come("d1")
        self.pass_time(DEBOUNCE - 3)
        self.go("d1")
        self.pass_time(2 * OFFLINE)
        self.assertEqual(self.take_kinds(), [("device_offline", "d1")])
        self.come("d1")
        self.pass_time(DEBOUNCE + 2)
        (event,) = self.told
        self.assertEqual(event.kind, "device_online")
        self.assertEqual(event.details["offline_since"], START)
        self.assertGreater(event.details["offline_for"], 3 * OFFLINE)

    def test_the_time_is_the_protocols(self) -> None:
        self.device("d1", "gizwits")
        self.go("d1")
        self.pass_time(OFFLINE + 10)
        self.assertEqual(self.kinds, [])
        self.pass_time(300 - OFFLINE)
        self.assertEqual(self.kinds, [("device_offline", "d1")])

    def test_states(self) -> None:
        watch = self.side.watch
        self.device("d1")
        self.assertEqual(watch.state_of("d1", True), ("online", 0))
        self.go("d1")
        self.assertEqual(watch.state_of("d1", False), ("away", 1))
        self.pass_time(OFFLINE + 1)
        self.assertEqual(watch.state_of("d1", False), ("offline", 1))
        self.come("d1")
        self.assertEqual(watch.state_of("d1", True), ("offline", 1))
        self.pass_time(DEBOUNCE + 1)
        self.assertEqual(watch.state_of("d1", True), ("online", 1))

    def test_removed_and_disabled_devices_are_not_missed(self) -> None:
        for id in ("d1", "d2", "d3", "d4"):
            self.device(id)
        self.go("d1", reason="removed")
        self.go("d4", reason="resting")  # its gateway stands in for another one
        self.go("d2")
        self.side.watch.registry_changed(Change("device_disabled", "d2"))
        self.go("d3")
        del self.storage.devices["d3"]
        self.pass_time(2 * OFFLINE)
        self.assertEqual(self.kinds, [])
        self.assertEqual(self.side.watch.open_stories, 0)

    def test_the_wall_clock_jumps(self) -> None:
        self.device("d1")
        self.go("d1")
        self.ahead += 86_400
        self.pass_time(OFFLINE - 2)
        self.assertEqual(self.kinds, [])
        self.ahead -= 2 * 86_400
        self.pass_time(3)
        (event,) = self.told
        self.assertEqual(event.details["offline_for"], 0.0)
        self.come("d1")
        self.pass_time(DEBOUNCE + 1)
        self.assertEqual(self.kinds[1:], [("device_online", "d1")])

    def test_storage_that_is_away_makes_it_late_and_not_lost(self) -> None:
        self.device("d1")
        self.go("d1")
        self.storage.away = True
        self.pass_time(OFFLINE + 20)
        self.assertEqual(self.kinds, [])
        self.storage.away = False
        self.pass_time(10)
        self.assertEqual(self.kinds, [("device_offline", "d1")])


class RuleTests(EventBed):
    def test_a_rule_has_its_own_time(self) -> None:
        self.rule(devices={"q": "pump"}, offline_after=30.0, sinks=())
        self.device("d1", name="Pump 1")
        self.device("d2", name="lamp")
        self.go("d1", "d2")
        self.pass_time(40)
        self.assertEqual(self.take_kinds(), [("device_offline", "d1")])
        self.pass_time(OFFLINE)
        self.assertEqual(self.take_kinds(), [("device_offline", "d2")])

    def test_two_rules_about_one_device_have_an_event_each(self) -> None:
        self.sink("soon")
        self.sink("later")
        self.rule("r1", ["soon"], offline_after=30.0)
        self.rule("r2", ["later"], offline_after=90.0, kinds=("device_offline",))
        self.device("d1")
        self.go("d1")
        self.pass_time(60)
        self.assertEqual([sink for sink, _ in self.attempts], ["soon"])
        self.pass_time(60)
        self.assertEqual([sink for sink, _ in self.attempts], ["soon", "later"])
        self.come("d1")
        self.pass_time(DEBOUNCE + 2)
        self.assertEqual([sink for sink, _ in self.attempts], ["soon", "later", "soon"])

    def test_debounce_of_a_rule_is_longer_than_its_time(self) -> None:
        self.rule(offline_after=10.0, debounce=50.0, sinks=())
        self.device("d1")
        self.go("d1")
        self.pass_time(40)
        self.come("d1")
        self.pass_time(100)
        self.assertEqual(self.kinds, [])

    def test_a_rule_that_changes_tells_nothing_twice(self) -> None:
        rule = self.rule(offline_after=30.0, sinks=())
        self.device("d1")
        self.go("d1")
        self.pass_time(40)
        self.assertEqual(self.take_kinds(), [("device_offline", "d1")])
        self.successResultOf(self.side.rules.change(rule.id, lambda old: type(old)(id=old.id, offline_after=60.0)))
        self.pass_time(100)
        self.assertEqual(self.kinds, [])
        self.come("d1")
        self.pass_time(DEBOUNCE + 2)
        self.assertEqual(self.kinds, [("device_online", "d1")])


class FlapTests(EventBed):
    def test_a_device_that_flaps_has_two_events(self) -> None:
        self.device("d1")
        self.flap("d1", 30)
        self.assertEqual(self.take_kinds(), [("device_flapping", "d1")])
        self.assertEqual(self.side.watch.state_of("d1", True)[0], "flapping")
        self.pass_time(WINDOW + 10)
        (event,) = self.told
        self.assertEqual((event.kind, event.details["online"]), ("device_steady", True))
        self.assertEqual(self.side.watch.open_stories, 0)

    def test_being_away_is_not_told_while_it_flaps_but_when_it_is_steady(self) -> None:
        self.device("d1")
        self.flap("d1", 6)
        self.go("d1")
        self.pass_time(OFFLINE + 60)
        self.assertEqual(self.take_kinds(), [("device_flapping", "d1")])
        self.pass_time(WINDOW)
        self.assertEqual(self.kinds, [("device_steady", "d1"), ("device_offline", "d1")])
        self.assertIs(self.told[0].details["online"], False)

    def test_connections_that_take_one_another_over_are_flapping(self) -> None:
        """Two devices with one id: nobody is ever off-line."""
        self.device("d1")
        for _ in range(6):
            self.pass_time(3)
            self.come("d1")
        self.pass_time(2)
        self.assertEqual(self.take_kinds(), [("device_flapping", "d1")])
        self.assertEqual(self.side.watch.state_of("d1", True), ("flapping", 6))
        self.pass_time(WINDOW + 10)
        self.assertEqual(self.kinds, [("device_steady", "d1")])
        self.assertEqual(self.side.watch.open_stories, 0)

    def test_slow_comings_and_goings_are_no_flapping(self) -> None:
        self.device("d1")
        self.flap("d1", 10, pause=90)
        self.assertEqual(self.kinds, [])

    def test_flapping_between_long_absences(self) -> None:
        self.rule(offline_after=20.0, debounce=5.0, flap_count=4, flap_window=400.0, sinks=())
        self.device("d1")
        for _ in range(20):
            self.go("d1")
            self.pass_time(30)
            self.come("d1")
            self.pass_time(30)
        kinds = [kind for kind, _ in self.kinds]
        self.assertEqual(kinds.count("device_flapping"), 1)
        self.assertLessEqual(len(kinds), 8)

    def test_over_a_restart_it_still_flaps_and_ends_once(self) -> None:
        self.device("d1")
        self.flap("d1", 6)
        self.assertEqual(self.take_kinds(), [("device_flapping", "d1")])
        self.crash()
        self.come("d1")
        self.pass_time(WINDOW / 2)
        self.assertEqual(self.kinds, [])
        self.pass_time(WINDOW)
        self.assertEqual(self.kinds, [("device_steady", "d1")])


class RestartTests(EventBed):
    def fleet(self, count: int) -> list[str]:
        return [self.device(f"d{number:03}") for number in range(count)]

    def test_no_storm(self) -> None:
        fleet = self.fleet(50)
        self.crash()
        self.pass_time(GRACE)
        self.come(*fleet[:30])
        self.pass_time(OFFLINE / 2)
        self.come(*fleet[30:])
        self.pass_time(3 * OFFLINE)
        self.assertEqual(self.kinds, [])

    def test_those_that_do_not_come_back_are_told(self) -> None:
        fleet = self.fleet(10)
        self.crash()
        self.come(*fleet[1:])
        self.pass_time(GRACE + OFFLINE - 2)
        self.assertEqual(self.kinds, [])
        self.pass_time(4)
        (event,) = self.told
        self.assertEqual((event.kind, event.device, event.details["reason"]), ("device_offline", "d000", "restart"))

    def test_away_before_the_crash_and_not_told_yet(self) -> None:
        self.fleet(2)
        self.go("d000")
        self.pass_time(OFFLINE / 2)
        self.crash()
        self.come("d001")
        self.pass_time(GRACE + OFFLINE + 2)
        (event,) = self.told
        self.assertEqual((event.device, event.details["since"]), ("d000", START))

    def test_told_before_is_not_told_again_but_its_return_is(self) -> None:
        self.fleet(1)
        self.go("d000")
        self.pass_time(OFFLINE + 2)
        self.assertEqual(self.take_kinds(), [("device_offline", "d000")])
        for _ in range(3):
            self.crash()
            self.pass_time(GRACE + 2 * OFFLINE)
            self.assertEqual(self.kinds, [])
        self.come("d000")
        self.pass_time(DEBOUNCE + 2)
        self.assertEqual(self.kinds, [("device_online", "d000")])
        self.assertEqual(self.told[0].details["offline_since"], START)
        self.crash()
        self.come("d000")
        self.pass_time(10 * OFFLINE)
        self.assertEqual(self.kinds, [])

    def test_long_away_before_the_start_is_no_news(self) -> None:
        self.device("old", online=False, presence_at=START - 90_000, presence_reason="idle")
        self.device("never", online=False)
        self.crash()
        self.pass_time(GRACE + 3 * OFFLINE)
        self.assertEqual(self.kinds, [])

    def test_two_crashes_in_a_row(self) -> None:
        self.fleet(2)
        self.crash()
        self.pass_time(20)
        self.crash()
        self.come("d001")
        self.pass_time(GRACE + OFFLINE + 2)
        self.assertEqual(self.kinds, [("device_offline", "d000")])

    def test_after_a_week_the_fleet_of_then_is_missed(self) -> None:
        self.fleet(2)
        self.pass_time(ALIVE_EVERY * 2)
        for record in self.storage.devices.values():
            self.devices.get(record.id)
        self.go("d000", "d001", reason="shutdown")
        self.successResultOf(self.side.close())
        self.ahead += 7 * 86_400
        self.crash()
        self.come("d001")
        self.pass_time(GRACE + OFFLINE + 2)
        self.assertEqual(self.kinds, [("device_offline", "d000")])


class FamilyTests(EventBed):
    MAC = "02123456789A"

    def family(self, children: int) -> list[str]:
        self.device(self.MAC, "gateway88", name="hall")
        return [self.device(f"c{number:02}", parent=self.MAC) for number in range(children)]

    def hear(self, id: str) -> None:
        live = self.devices.get(id)
        assert live is not None
        live.last_seen = self.wall()

    def test_one_alarm_for_a_gateway_with_fifty_children(self) -> None:
        children = self.family(50)
        self.pass_time(1)
        self.go(*children[:25])
        self.go(self.MAC)
        self.go(*children[25:])
        self.pass_time(5 * OFFLINE)
        (event,) = self.told
        self.assertEqual((event.kind, event.device), ("gateway_offline", self.MAC))
        self.assertEqual(event.details["children"], {"known": 50, "offline": 50, "offline_ids": children})
        self.come(self.MAC, *children)
        self.pass_time(5 * OFFLINE)
        self.assertEqual(self.kinds[1:], [("gateway_online", self.MAC)])

    def test_the_gateway_is_noticed_later_than_its_children(self) -> None:
        children = self.family(5)
        self.pass_time(1)
        self.go(*children)
        self.pass_time(OFFLINE - 10)  # the children's time is not over when the gateway's connection is given up
        self.go(self.MAC)
        self.pass_time(5 * OFFLINE)
        self.assertEqual(self.kinds, [("gateway_offline", self.MAC)])

    def test_the_gateway_is_noticed_even_after_their_time(self) -> None:
        children = self.family(5)
        self.pass_time(1)
        self.go(*children)
        self.pass_time(OFFLINE + 40)  # it has said nothing since, so its word is waited for
        self.assertEqual(self.kinds, [])
        self.go(self.MAC)
        self.pass_time(5 * OFFLINE)
        self.assertEqual(self.kinds, [("gateway_offline", self.MAC)])

    def test_a_gateway_that_never_says_anything_is_not_waited_for_for_ever(self) -> None:
        children = self.family(1)
        self.pass_time(1)
        self.go(*children)
        self.pass_time(OFFLINE + PARENT_PATIENCE + 2 * FOLD_LOOK)
        self.assertEqual(self.kinds, [("device_offline", "c00")])

    def test_a_child_alone_is_told(self) -> None:
        children = self.family(3)
        self.pass_time(1)
        self.go(children[1])
        self.pass_time(5)
        self.hear(self.MAC)
        self.pass_time(OFFLINE + 2 * FOLD_LOOK)
        self.assertEqual(self.kinds, [("device_offline", "c01")])

    def test_a_child_that_stays_away_when_the_gateway_is_back(self) -> None:
        children = self.family(3)
        self.go(self.MAC, *children)
        self.pass_time(2 * OFFLINE)
        self.assertEqual(self.take_kinds(), [("gateway_offline", self.MAC)])
        self.come(self.MAC, *children[1:])
        self.pass_time(OFFLINE)
        self.assertEqual(self.take_kinds(), [("gateway_online", self.MAC)])
        self.hear(self.MAC)
        self.pass_time(OFFLINE)
        self.assertEqual(self.kinds, [("device_offline", "c00")])
        self.assertEqual(self.told[0].details["since"], START)

    def test_a_gateway_that_was_never_there_hides_nothing(self) -> None:
        self.device(self.MAC, "gateway88", online=False)
        self.device("c1", parent=self.MAC)
        self.device("c2", parent="nobody")
        self.go("c1", "c2")
        self.pass_time(OFFLINE + PARENT_PATIENCE + 2 * FOLD_LOOK)
        self.assertEqual(sorted(self.kinds), [("device_offline", "c1"), ("device_offline", "c2")])

    def test_anything_with_children_is_a_gateway(self) -> None:
        self.device("box")
        self.device("c1", parent="box")
        self.go("box", "c1")
        self.pass_time(2 * OFFLINE)
        self.assertEqual(self.kinds, [("gateway_offline", "box")])

    def test_children_flap_with_their_gateway(self) -> None:
        children = self.family(10)
        for _ in range(8):
            self.go(self.MAC, *children)
            self.pass_time(4)
            self.come(self.MAC, *children)
            self.pass_time(4)
        self.assertEqual(self.take_kinds(), [("device_flapping", self.MAC)])
        self.pass_time(2 * WINDOW)
        self.assertEqual(self.kinds, [("device_steady", self.MAC)])


class LoraTests(EventBed):
    ROOF, HALL = "AA555A0000000001", "AA555A0000000002"

    def setUp(self) -> None:
        self.lora = Lora()
        super().setUp()

    def start(self) -> None:
        super().start()
        self.lora.watchers.clear()
        self.side.watch.watch_lora(self.lora)

    def network(self) -> None:
        for eui in (self.ROOF, self.HALL):
            self.lora.set(eui, True, self.wall())
        for mote in ("m1", "m2", "m3"):
            self.device(mote, "lorawan")
            self.lora.near[mote] = (self.ROOF,)

    def test_a_gateway_with_its_motes(self) -> None:
        self.network()
        self.lora.near["m3"] = (self.ROOF, self.HALL)
        self.lora.set(self.ROOF, False, self.wall())
        self.pass_time(OFFLINE + 1)
        (event,) = self.told
        self.assertEqual((event.kind, event.device, event.protocol), ("gateway_offline", self.ROOF, "lorawan"))
        self.assertEqual(event.details["children"]["known"], 2)
        self.told.clear()
        self.go("m1", "m2", "m3", reason="idle")
        self.pass_time(5)
        self.lora.gateways[self.HALL]["last_seen"] = self.wall()
        self.pass_time(OFFLINE + 2 * FOLD_LOOK)
        self.assertEqual(self.kinds, [("device_offline", "m3")])

    def test_a_gateway_that_does_not_come_back_after_a_crash(self) -> None:
        self.network()
        self.crash()
        self.lora.set(self.HALL, True, self.wall())
        self.come("m1", "m2", "m3")
        self.pass_time(GRACE + OFFLINE + 1)
        self.assertEqual(self.kinds, [("gateway_offline", self.ROOF)])
        self.lora.set(self.ROOF, True, self.wall())
        self.pass_time(DEBOUNCE + 1)
        self.assertEqual(self.kinds[1:], [("gateway_online", self.ROOF)])
