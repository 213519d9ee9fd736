"""Gizwits devices that are not there: the life of a GAgent, from its first power-on to its factory reset.

::

    power on ─> register (once) ─> provision ─┬─ 1 s ─> MQTT ─> up ─> reports, answers, pings
                                              ├─> OTA check of WiFi, of MCU ─> download ─> power on with the new version
                                              ├─> DELETE of what it was before the last reset
                                              └─ every hour ─> provision (it needs the time)

    MQTT lost ─ 0, 10, 20 ... s ─> MQTT; after ten that failed ─> provision
    register or provision failed ─ 6, 16, 26 ... s ─> again, for ever
    factory reset ─> DELETE, nobody waits for the answer ─> power on with a new passcode

What it keeps when it is switched off is its `Flash`. With ``strict`` it understands no more than a real one does (see
`gizwits_http`, `gizwits_link`); without, it reads HTTP and MQTT as they are meant, which is kinder to a busy machine.

Everything random comes from ``seed``; the reactor is given; nothing here blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import report_topic
from broker.simulate import gizwits_http as http
from broker.simulate.chores import Chores
from broker.simulate.gizwits_lamp import Lamp
from broker.simulate.gizwits_link import AgentLink, Login
from broker.simulate.gizwits_traits import Flash, GizwitsBehaviour, GizwitsCounts, GizwitsIdentity

#: Seconds.
FIRST_RETRY: Final = 6.0
RETRY_STEP: Final = 10.0
BEFORE_LOGIN: Final = 1.0
HOUR: Final = 3600.0
REBOOT: Final = 0.5
#: Lost connections in a row after which it asks anew where to connect.
TRIES: Final = 10
#: Characters of an app's client id that a device can keep.
APP_LENGTH: Final = 23
UNREACHED: Final = (ConnectError, DNSLookupError)
MISSED: Final = (http.NotUnderstood, *UNREACHED)


class SimulatedGizwits:
    """A device. ``gservice`` is a client endpoint, ``host`` what it writes as Host. ``m2m(host, port)`` gives the
    client endpoint of what it is provisioned with. ``told(device, what)`` hears a word about each thing that happens.
    """

    def __init__(
        self,
        reactor: Any,
        gservice: Any,
        host: str,
        m2m: Callable[[str, int], Any],
        identity: GizwitsIdentity,
        seed: int = 0,
        behaviour: GizwitsBehaviour | None = None,
        told: Callable[[SimulatedGizwits, str], None] | None = None,
    ) -> None:
        self.identity = identity
        self.behaviour = behaviour or GizwitsBehaviour()
        self.counts = GizwitsCounts()
        self.random = Random(f"{seed} {identity.mac}")
        self.flash = Flash(self._new_passcode())
        self.lamp = Lamp(self.random)
        #: How many apps are online, as it was told; None: it was not told.
        self.apps: int | None = None
        #: Bits of the log setting.
        self.logs = 0
        self.server_ts = 0
        self.running = False
        self._reactor = reactor
        self._gservice = gservice
        self._host = host
        self._m2m = m2m
        self._told = told
        self._link: AgentLink | None = None
        #: All that ends when it is switched off.
        self._chores = Chores(reactor, self._ended)
        self._boot: Any = None
        self._sn = 0
        self._upgrading = False

    @property
    def did(self) -> str:
        """Empty before it is registered."""
        return self.flash.did

    @property
    def online(self) -> bool:
        return self._link is not None and self._link.up

    # -- from outside ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Power on. Harmless twice."""
        if not self.running:
            self.running = True
            self._power_on()

    def stop(self) -> Deferred[Any]:
        """Power off; fires when its connections are gone."""
        self.running = False
        return self._power_off()

    def disconnect(self) -> None:
        """Drop the connection, as a bad network does."""
        if self._link is not None:
            self._link.drop()

    def reset(self) -> None:
        """Factory reset: take itself off, begin anew with another passcode."""
        flash = self.flash
        self.counts.resets += 1
        self._tell("reset")
        self._power_off()
        if flash.did:
            flash.old = (flash.did, flash.passcode)
            self._chores.begin(self._take_off(*flash.old))
        flash.did = ""
        flash.passcode = self._new_passcode()
        self._reboot()

    def report(self) -> None:
        """The present values, to all apps."""
        self.counts.reports += 1
        self.say(g.Report(self.lamp.report()))

    def request(self, data: bytes) -> int:
        """The same, wanting an acknowledgement; its number."""
        self._sn += 1
        self.say(g.Request(self._sn, data))
        return self._sn

    def ask_apps(self, topic: str = "cli2ser_req") -> None:
        """How many apps are online?"""
        self._publish(topic, g.encode(g.AskApps()))

    def say(self, packet: g.Business, app: str = "") -> None:
        """A business message, to one app or to all."""
        self._publish(report_topic(self.did, app[:APP_LENGTH]), g.encode(packet))

    # -- its life --------------------------------------------------------------------------------------------------

    def _power_on(self) -> None:
        self._boot = None
        self._chores.begin(self._live())

    def _power_off(self) -> Deferred[Any]:
        if self._boot is not None:
            self._boot.cancel()
            self._boot = None
        link, self._link = self._link, None
        self._chores.end()
        return succeed(None) if link is None else link.closed

    def _reboot(self) -> None:
        if self.running and self._boot is None:
            self._boot = self._reactor.callLater(REBOOT / self.behaviour.tempo, self._power_on)

    async def _live(self) -> None:
        flash = self.flash
        while not flash.did:
            await self._persist(self._register)
        first = True
        while True:
            where = await self._persist(self._provision)
            if first:
                self._chores.begin(self._after_provision())
                self._chores.begin(self._every_hour())
                first = False
            await self._chores.sleep(BEFORE_LOGIN / self.behaviour.tempo)
            await self._stay(where)

    async def _after_provision(self) -> None:
        for kind in (g.WIFI, g.MCU):
            await self._check(kind)
        old = self.flash.old
        if old is not None:
            self.flash.old = None
            await self._take_off(*old)

    async def _every_hour(self) -> None:
        while True:
            await self._chores.sleep(HOUR)
            try:
                await self._provision()
            except MISSED as error:
                self._failed(error)

    async def _stay(self, where: http.Provision) -> None:
        """Keep a connection, until too many have failed."""
        failed = 0
        while failed < TRIES:
            if failed:
                await self._chores.sleep(RETRY_STEP * failed / self.behaviour.tempo)
            logins = self.counts.logins
            try:
                link = await self._m2m(where.host, where.port).connect(
                    Factory.forProtocol(lambda: AgentLink(self._reactor, self._login(), self))
                )
            except UNREACHED as error:
                self._failed(error)
                failed += 1
                continue
            self._link = link
            self.counts.connections += 1
            await link.gone
            self._link = None
            self._tell("connection lost")
            failed = 0 if self.counts.logins > logins else failed + 1

    async def _persist(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Until it has worked."""
        delay = FIRST_RETRY
        while True:
            try:
                return await call()
            except MISSED as error:
                self._failed(error)
            await self._chores.sleep(delay / self.behaviour.tempo)
            delay += RETRY_STEP

    # -- GService --------------------------------------------------------------------------------------------------

    async def _register(self) -> None:
        flash = self.flash
        answer = await self._ask(
            http.register_request(self._host, self.identity.product, self.identity.mac, flash.passcode)
        )
        flash.did = http.did_of(answer)
        self.counts.registrations += 1
        self._tell(f"registered as {flash.did}")

    async def _provision(self) -> http.Provision:
        where = http.provision_of(await self._ask(http.provision_request(self._host, self.did)))
        self.server_ts = where.server_ts
        self.counts.provisions += 1
        return where

    async def _take_off(self, did: str, passcode: str) -> None:
        try:
            await self._ask(http.disable_request(self._host, did, passcode))
        except MISSED as error:
            self._failed(error)

    async def _check(self, kind: int) -> None:
        """OTA v4.1."""
        hard, soft = self.flash.versions[kind]
        self.counts.checks += 1
        try:
            answer = await self._ask(http.check_request(self._host, self.did, self.flash.passcode, kind, hard, soft))
            update = http.update_of(answer)
            if soft < update.version:
                await self._upgrade(kind, update)
        except MISSED as error:
            self._tell(f"no firmware: {error}")

    async def _target(self, kind: int) -> None:
        """OTA v4.0: say what it has."""
        hard, soft = self.flash.versions[kind]
        self.counts.checks += 1
        request = http.target_request(self._host, self.did, self.identity.product, kind, hard, soft, self.flash.fid)
        try:
            http.target_of(await self._ask(request))
        except MISSED as error:
            self._tell(f"no firmware: {error}")

    async def _fetch(self, kind: int, update: http.Update) -> None:
        """As a notice of OTA v4.0 says."""
        try:
            await self._upgrade(kind, update)
        except MISSED as error:
            self._failed(error)
        else:
            await self._target(kind)

    async def _upgrade(self, kind: int, update: http.Update) -> None:
        if self._upgrading:  # one that is at it hears of nothing else
            return
        self._upgrading = True
        try:
            await self._take(kind, update)
        finally:
            self._upgrading = False

    async def _take(self, kind: int, update: http.Update) -> None:
        how = self.behaviour.update
        if how != "claims":
            request = http.download_request(update.url)
            await http.exchange(self._reactor, self._gservice, request, self.behaviour.strict, image=True)
            self.counts.downloads += 1
        if how == "breaks":
            return
        if how == "keeps":
            self._reactor.callLater(0, self._restart)
            return
        self.counts.upgrades += 1
        hard, soft = self.flash.versions[kind]
        self.flash.versions[kind] = (hard, update.version or soft)
        self.flash.fid = update.fid or self.flash.fid
        self._tell(f"upgraded to {update.version or update.fid}")
        if update.version:
            self._reactor.callLater(0, self._restart)

    def _restart(self) -> None:
        self._power_off()
        self._reboot()

    async def _ask(self, request: bytes) -> bytes:
        return await http.exchange(self._reactor, self._gservice, request, self.behaviour.strict)

    # -- on its connection -----------------------------------------------------------------------------------------

    def link_up(self) -> None:
        self.counts.logins += 1
        self._tell("logged in")
        if self.behaviour.report_every > 0:
            self._chores.begin(self._reports())

    def link_refused(self, code: int) -> None:
        self.counts.refused += 1
        self._tell(f"refused: {code}")

    def lost_packet(self) -> None:
        self.counts.lost_packets += 1
        self._tell("a packet was lost")

    async def _reports(self) -> None:
        link = self._link
        await self._chores.sleep(self.random.uniform(0, self.behaviour.report_every))
        while self._link is link and self.online:
            self.report()
            if 0 < self.behaviour.disconnect_rate > self.random.random():
                self.disconnect()
                return
            await self._chores.sleep(self.behaviour.report_every)

    def message(self, topic: str, payload: bytes) -> None:
        try:
            if topic.startswith("app2dev/"):
                self._business(topic.split("/")[2], g.decode_business(payload))
            else:
                self._system(g.decode_system(payload))
        except (g.Malformed, IndexError):
            self.counts.malformed += 1

    def _business(self, app: str, packet: g.Business) -> None:
        match packet:
            case g.Control():
                self.counts.commands += 1
                answer = self.lamp.hear(packet.data)
                if answer:
                    self.say(g.Report(answer))  # to all apps, as real ones do
            case g.Request():
                self.counts.commands += 1
                self.say(g.Ack(packet.sn, self.lamp.hear(packet.data)), app)
            case g.Ack():
                self.counts.acks += 1
            case g.SetLog():
                self.logs = packet.bits
                self.say(g.LogSet() if self.behaviour.sets_log else g.Report(), app if self.behaviour.sets_log else "")
                if packet.bits & g.INFO_LOGS:
                    self.say(g.Log(3, b"agent", b"log", b"log levels were set"))

    def _system(self, packet: g.System) -> None:
        if self.behaviour.update == "dumb" and not isinstance(packet, g.Apps):
            return
        match packet:
            case g.Apps():
                self.apps = packet.count
            case g.CheckFirmware() if packet.kind in self.flash.versions:
                self._chores.begin(self._check(packet.kind))
            case g.Firmware() if packet.kind in self.flash.versions:
                self._chores.begin(self._fetch(packet.kind, http.Update(packet.url, fid=packet.fid)))

    def _publish(self, topic: str, payload: bytes) -> None:
        if self._link is not None:
            self._link.publish(topic, payload)

    def _login(self) -> Login:
        how = self.behaviour
        return Login(self.did, self.identity.product, self.flash.passcode, how.keep_alive, how.ping_every, how.strict)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _new_passcode(self) -> str:
        """Ten letters from A to Y, as real ones make them."""
        return "".join(chr(65 + self.random.randrange(25)) for _ in range(10))

    def _ended(self, failure: Failure) -> None:
        failure.trap(http.Crashed)
        self.counts.crashes += 1
        self._tell(f"crashed: {failure.getErrorMessage()}")
        self._reactor.callLater(0, self._restart)

    def _failed(self, error: Exception) -> None:
        self.counts.failures += 1
        self._tell(str(error) or type(error).__name__)

    def _tell(self, what: str) -> None:
        if self._told is not None:
            self._told(self, what)

    def __repr__(self) -> str:
        return f"<SimulatedGizwits {self.did or self.identity.mac}{' online' if self.online else ''}>"
