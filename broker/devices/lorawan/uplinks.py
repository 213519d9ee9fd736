"""Data frames of motes: whose they are, whether they are new, and what they say.

A frame is taken when its MIC is right under a session of that address with the next counters; then the counter moves on
and the frame can never come again. The frame before is known too: a mote sends it again when it missed the answer, so a
confirmed one is answered again, and nothing else happens; what comes before RX1 is a late gateway's copy. Older ones
are replays.

==========================  ======================================================================================
of the frame                becomes
==========================  ======================================================================================
payload on port 1..255      Uplink "raw", meta: port, fcnt, rssi, snr, gateways, data_rate, frequency, confirmed
DevStatusAns                Uplink "status" {"battery", "margin"}; the same in ``info["status"]``
other MAC commands          answers in the next downlink (`mac`)
ACK                         the end of a confirmed command
ADRACKReq, confirmed        a downlink, even if there is nothing to send
==========================  ======================================================================================
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from broker.core import Core
from broker.devices.lorawan import tracing
from broker.devices.lorawan.counter import MAX_COUNTER, reconstruct, repeated
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.downlinks import Downlinks
from broker.devices.lorawan.frames import DataUp
from broker.devices.lorawan.gps import gps_seconds
from broker.devices.lorawan.mac import codec
from broker.devices.lorawan.mac.codec import (
    Command,
    DeviceTimeAns,
    DeviceTimeReq,
    DevStatusAns,
    LinkCheckAns,
    LinkCheckReq,
)
from broker.devices.lorawan.mac.dialogue import Dialogue
from broker.devices.lorawan.motes import PROTOCOL, Mote, Motes
from broker.devices.lorawan.reception import Heard
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.store import Store
from broker.devices.lorawan.windows import margin
from broker.model.messages import EVENT, RAW, STATUS, DeviceRef, Uplink
from broker.routing.traces import IN
from broker.routing.values import LastValues

#: Gateways that are remembered as near a mote.
MAX_NEAR: Final = 3
#: Answers to the same frame; a mote sends it 15 times at most (NbTrans).
MAX_REPEATS: Final = 15
#: LinkCheckAns knows no larger one, dB.
MAX_MARGIN: Final = 254
#: Of motes that may have gone, so many are looked at in one tick.
MAX_GONE: Final = 1_000


class Uplinks:
    """``take`` is given each frame at the end of its window."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LorawanCounters,
        motes: Motes,
        store: Store,
        downlinks: Downlinks,
        dialogue: Dialogue,
    ) -> None:
        self._core = core
        self._counted = counted
        self._motes = motes
        self._store = store
        self._downlinks = downlinks
        self._dialogue = dialogue
        self.settings = settings
        #: Motes that are on-line, the longest silent first.
        self._present: dict[Mote, None] = {}

    def take(self, heard: Heard, frame: DataUp) -> None:
        """A data frame, the best reception first."""
        for mote in self._motes.at(frame.dev_addr):
            fcnt = reconstruct(mote.up, frame.fcnt16)
            if fcnt is not None and frame.verify(mote.nwk_s_key, fcnt):
                self._new(mote, heard, frame, fcnt)
                return
            if repeated(mote.up, frame.fcnt16) and frame.verify(mote.nwk_s_key, mote.up - 1):
                self._again(mote, heard, frame)
                return
        self._refused(frame)

    def _refused(self, frame: DataUp) -> None:
        """Forged, or genuine and old: worth telling apart."""
        for mote in self._motes.at(frame.dev_addr):
            before = mote.up - ((mote.up - frame.fcnt16) & 0xFFFF)
            if before >= 0 and frame.verify(mote.nwk_s_key, before):
                self._counted.replays += 1
                return
        self._counted.bad_mics += 1

    def _again(self, mote: Mote, heard: Heard, frame: DataUp) -> None:
        if heard.arrived < mote.heard_at + mote.rx.delay:
            # A gateway behind a slow line: a mote listens in its windows before it sends again. Answering would put
            # two downlinks into the same window.
            self._counted.late_copies += 1
            return
        self.present(mote, heard)
        self._counted.repetitions += 1
        mote.repeats += 1
        if mote.repeats <= MAX_REPEATS:
            mote.ack = mote.ack or frame.confirmed
            self._downlinks.after(mote, heard)

    def _new(self, mote: Mote, heard: Heard, frame: DataUp, fcnt: int) -> None:
        self._counted.frames += 1
        mote.up = min(fcnt + 1, MAX_COUNTER + 1)
        mote.repeats = 0
        mote.near = tuple(reception.gateway for reception in heard.receptions[:MAX_NEAR])
        if frame.port:
            mote.port = frame.port
        self._store.changed(mote)
        self.present(mote, heard)
        if frame.ack:
            self._downlinks.acknowledged(mote, heard)
        mote.ack = frame.confirmed
        mote.prompt = frame.adr_ack_req
        mote.answers = b""
        clear = frame.decrypt(mote.nwk_s_key, mote.app_s_key, fcnt) if frame.port is not None else b""
        if mote.tell is not None:
            mote.tell(IN, heard.phy, tracing.uplink(heard, frame, fcnt, clear))
        said = clear if frame.port == 0 else frame.fopts
        commands = self._commands(mote, heard, said) if said else ()
        if self._dialogue.heard(mote, heard, fcnt, frame.adr, commands):
            self._show(mote)
        if frame.port:
            self._core.router.uplink(Uplink(mote.live.ref, RAW, clear, heard.at, None, meta_of(heard, frame, fcnt)))
        self._downlinks.after(mote, heard)

    def _commands(self, mote: Mote, heard: Heard, data: bytes) -> list[Command]:
        """What the mote says to the network; what it asks is answered with the next downlink."""
        commands, whole = codec.parse_up(data)
        if not whole:
            self._counted.unread_commands += 1
        # Of several of a kind the last one counts: there is one downlink.
        for kind, command in {type(one): one for one in commands}.items():
            if kind is LinkCheckReq:
                best = max(margin(reception) for reception in heard.receptions)
                told = LinkCheckAns(max(0, min(MAX_MARGIN, int(best))), min(255, len(heard.receptions)))
                mote.answers += codec.encode(told)
            elif kind is DeviceTimeReq:
                mote.answers += codec.encode(DeviceTimeAns.at(gps_seconds(heard.ended_at())))
            elif isinstance(command, DevStatusAns):
                self._dialogue.status(mote, command, heard.at)
                status = {"battery": command.battery, "margin": command.margin}
                mote.live.info["status"] = {**status, "at": heard.at}
                mote.live.info_changed = True
                self._core.router.uplink(Uplink(mote.live.ref, STATUS, status, heard.at))
        return commands

    @staticmethod
    def _show(mote: Mote) -> None:
        if mote.mac is not None:
            mote.live.info["mac"] = mote.mac.brief()
            mote.live.info_changed = True

    def clear(self) -> None:
        """Nobody is on-line any more, as far as this network is concerned; nobody is told."""
        self._present.clear()

    # -- presence --------------------------------------------------------------------------------------------------

    def resume(self, motes: list[tuple[float, Mote]]) -> None:
        """After a restart: motes that were on-line before are so still, as far as anybody can know."""
        now, clock = self._core.monotonic(), self._core.clock()
        for last_seen, mote in sorted(motes, key=lambda one: one[0]):
            if last_seen > clock - self.settings.mote_offline_after:
                self._present_at(mote, now - (clock - last_seen), last_seen)

    def present(self, mote: Mote, heard: Heard) -> None:
        """The mote was heard."""
        self._present_at(mote, heard.arrived, heard.at)

    def _present_at(self, mote: Mote, heard_at: float, at: float) -> None:
        mote.heard_at = heard_at
        live = mote.live
        if live is None or live.link is not mote:
            live = mote.live = self._core.devices.attach(DeviceRef(PROTOCOL, mote.dev_eui), mote, partial(_known, mote))
            live.ready = True
        live.last_seen = at
        self._present.pop(mote, None)
        self._present[mote] = None

    def joined(self, mote: Mote, heard: Heard) -> None:
        """A gateway has taken the join-accept."""
        self.present(mote, heard)
        event = {"event": "join", "dev_addr": f"{mote.dev_addr:08X}"}
        gateways = [reception.as_dict() for reception in heard.receptions]
        self._core.router.uplink(Uplink(mote.live.ref, EVENT, event, heard.at, None, {"gateways": gateways}))

    def hand_over(self, old: Mote, new: Mote, heard: Heard) -> None:
        """The mote has joined anew: if it was on-line, it stays so."""
        self._present.pop(old, None)
        self._downlinks.session_over(old)
        if old.live is not None and old.live.link is old:
            self.present(new, heard)
            new.live.info_changed = new.live.info.pop("mac", None) is not None or new.live.info_changed

    def leave(self, mote: Mote, reason: str) -> None:
        """The mote is off-line, or no mote any more."""
        self._present.pop(mote, None)
        live, mote.live = mote.live, None
        if live is not None:
            self._core.devices.detach(live, mote, reason)

    def tick(self, now: float) -> None:
        """Notice those that were silent for long."""
        before = now - self.settings.mote_offline_after
        for _ in range(MAX_GONE):
            mote = next(iter(self._present), None)
            if mote is None or mote.heard_at > before:
                return
            self.leave(mote, "idle")


def meta_of(heard: Heard, frame: DataUp, fcnt: int) -> dict[str, Any]:
    """What is known beside the payload, of the gateway that heard it best, and in short of each."""
    best = heard.receptions[0]
    return {
        "port": frame.port,
        "fcnt": fcnt,
        "rssi": best.rssi,
        "snr": best.snr,
        "gateways": [reception.as_dict() for reception in heard.receptions],
        "data_rate": best.datr,
        "frequency": best.frequency,
        "confirmed": frame.confirmed,
    }


def _known(mote: Mote) -> tuple[LastValues, dict[str, Any]]:
    """Payloads of motes are bytes: there are no last values."""
    info: dict[str, Any] = {}
    if mote.mac is not None:
        info["mac"] = mote.mac.brief()
        if mote.mac.status is not None:
            battery, above, at = mote.mac.status
            info["status"] = {"battery": battery, "margin": above, "at": at}
    return LastValues(), info
