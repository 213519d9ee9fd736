"""The table [listeners.lorawan]."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from broker.devices.lorawan.chirpstack.settings import ChirpstackSettings
from broker.devices.lorawan.priority import Ceilings
from broker.devices.lorawan.regions import REGIONS
from broker.listening.settings import ListenerSettings, Seconds

Count = Annotated[int, Meta(ge=1)]
#: A frequency of MAC commands, Hz; 0: as the region has it.
Frequency = Annotated[int, Meta(ge=0, le=1_677_721_500, multiple_of=100)]
DwellTime = Literal["region", "none", "up", "down", "both"]
#: A row of `regions.REGIONS`; a test keeps the two equal.
RegionName = Literal[
    "eu868",
    "cn470",
    "cn470-a20",
    "cn470-b20",
    "cn470-a26",
    "cn470-b26",
    "as923",
    "as923-2",
    "as923-3",
    "as923-4",
    "in865",
    "kr920",
    "us915",
    "au915",
]


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """LoRaWAN packet forwarders and the motes behind them. Of ``limits`` nothing applies: nobody is connected."""

    bind: tuple[str, ...] = ("udp:1700",)
    #: The regional parameters of gateways and motes that name no others.
    region: RegionName = "cn470"
    #: Gateways that are not registered: quarantine | accept | refuse.
    unknown: Literal["quarantine", "accept", "refuse"] = "quarantine"
    #: Six hexadecimal digits; 000000 and 000001 are for private networks.
    net_id: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{6}$")] = "000000"
    #: Gateways that are kept in memory, registered or accepted.
    max_gateways: Count = 10_000
    #: Seconds without a PULL_DATA after which a gateway is off-line; forwarders send one every 5 to 10 seconds.
    gateway_offline_after: Seconds = 30.0
    #: Seconds from the first gateway that hears a frame to the last that counts.
    deduplication: Annotated[float, Meta(ge=0, le=1)] = 0.2
    #: Frames that may be in that window at once; further ones are dropped, counted.
    max_frames: Count = 20_000
    #: Seconds after that in which commands that the frame caused may still catch its windows.
    downlink_wait: Annotated[float, Meta(ge=0, le=1)] = 0.1
    #: Seconds before its time that a downlink has to leave: the network and the gateway need some.
    downlink_margin: Annotated[float, Meta(ge=0, le=1)] = 0.3
    #: Seconds from the end of an uplink to RX1; RX2 is one second later. Told at a join; others begin with 1.
    rx1_delay: Annotated[int, Meta(ge=1, le=15)] = 1
    #: RX1DROffset. Told at a join; others begin with 0. One that the region does not have counts as its largest.
    rx1_offset: Annotated[int, Meta(ge=0, le=7)] = 0
    #: RX2 of motes in ``region``: Hz and data rate; 0 and -1: as the region has it.
    rx2_frequency: Frequency = 0
    rx2_rate: Annotated[int, Meta(ge=-1, le=15)] = -1
    #: Share of the time that motes may be on air, all bands together: 1 / 2**this; 0: no limit but the region's.
    max_duty_cycle: Annotated[int, Meta(ge=0, le=15)] = 0
    #: Channels beside the region's own that motes in ``region`` are to have, Hz; none: those that a join tells of.
    channels: Annotated[tuple[Frequency, ...], Meta(max_length=16)] = ()
    #: Dwell times of 400 ms for motes in ``region``, where that has a choice (AS923, AU915): region (as motes begin) |
    #: none | up | down | both.
    dwell_time: DwellTime = "region"
    #: Whether motes that leave their data rate to the network are told one (ADR).
    adr: bool = True
    #: dB above what demodulation needs that are kept for fading.
    adr_margin: Annotated[float, Meta(ge=0, le=40)] = 10.0
    #: Frames that are looked back upon.
    adr_history: Annotated[int, Meta(ge=4, le=100)] = 20
    #: Data rates to choose from, of those that the region has for this.
    adr_min_rate: Annotated[int, Meta(ge=0, le=15)] = 0
    adr_max_rate: Annotated[int, Meta(ge=0, le=15)] = 15
    #: The largest TXPower index, which is the lowest power.
    adr_max_power: Annotated[int, Meta(ge=0, le=15)] = 15
    #: How often a mote may be told to send each frame (NbTrans).
    adr_max_transmissions: Annotated[int, Meta(ge=1, le=15)] = 3
    #: Frames in which a MAC command is sent that is not answered, and seconds in which it is not sent after that.
    mac_tries: Annotated[int, Meta(ge=1, le=100)] = 5
    mac_pause: Seconds = 21_600.0
    #: Seconds after which a mote is asked once more for what it has refused; 0: not in its session.
    mac_forgive: Annotated[float, Meta(ge=0)] = 86_400.0
    #: Seconds that a gateway has for its TX_ACK. Silence is consent with version 1 only.
    tx_ack_timeout: Seconds = 3.0
    #: dBm EIRP that gateways send with, if the region allows as much; 0: as the region has it.
    power: Annotated[int, Meta(ge=0, le=36)] = 0
    #: Whether gateways are kept within the duty cycles of their region.
    duty_cycle: bool = True
    #: Which part of a band's air time is open to downlinks of which priority.
    ceilings: Ceilings = Ceilings()
    #: Which receive windows are used. auto: of those that are free and legal the one with the shortest frame that is
    #: likely to be heard, and of equals the one with more power and air time to spare.
    rx_window: Literal["auto", "rx1", "rx2"] = "auto"
    #: Seconds that a class C mote is left alone after an unconfirmed downlink.
    class_c_gap: Seconds = 1.0
    #: Seconds in which it has to answer a confirmed one.
    class_c_timeout: Seconds = 8.0
    #: Which eight channels the gateways hear of a plan with more: 0 is the lowest eight (US915 and AU915: with their
    #: channel of 500 kHz). Motes are told when they join and after their first frame. -1: they are set to them already.
    channel_block: Annotated[int, Meta(ge=-1, le=11)] = -1
    #: How often a confirmed downlink is sent at most.
    transmissions: Annotated[int, Meta(ge=1, le=15)] = 3
    #: Seconds between two questions for battery and margin (DevStatusReq); 0: never.
    status_interval: Annotated[float, Meta(ge=0)] = 86_400.0
    #: Seconds without a frame after which a mote is off-line.
    mote_offline_after: Seconds = 86_400.0
    #: Downlink counters that are reserved on disk at a time; after a crash as many are left out at most.
    counter_block: Annotated[int, Meta(ge=2, le=8192)] = 64
    #: Port of commands that name none and whose mote has used none yet.
    default_port: Annotated[int, Meta(ge=1, le=255)] = 10
    #: Priority of commands that name none; larger goes first.
    default_priority: Annotated[int, Meta(ge=0, le=255)] = 32
    #: Multicast groups, motes in one of them, and messages that may wait for one.
    max_groups: Count = 1_000
    max_group_members: Count = 10_000
    max_group_messages: Count = 32
    #: Messages of a group that are kept when they are over, for whoever asks what became of them.
    kept_group_messages: Count = 100
    #: Seconds between two repetitions of a message to a group.
    multicast_spacing: Seconds = 5.0
    #: Seconds that the others of a group wait for members whose gateways are off-line.
    multicast_patience: Annotated[float, Meta(ge=0)] = 30.0
    #: Join-requests that may wait for storage at once; further ones are dropped, counted.
    max_joins: Count = 1_000
    #: Bytes that the system may keep of datagrams that we have not read yet.
    receive_buffer: Count = 4_194_304
    #: ChirpStack v4 as the network of motes that are registered so.
    chirpstack: ChirpstackSettings = ChirpstackSettings()

    def __post_init__(self) -> None:
        region = REGIONS[self.region]
        if region.fixed and self.channel_block >= region.blocks:
            raise ValueError(f"channel_block of {region.name} is 0 to {region.blocks - 1}, or -1")
        fault = region.unfit(self.rx2_rate if self.rx2_rate >= 0 else None, self.channels)
        if fault is not None:
            raise ValueError(fault)
        if self.dwell_time in ("up", "down", "both") and not region.tx_param_setup:
            raise ValueError(f"{region.name} has no dwell times that could be switched on (dwell_time)")
