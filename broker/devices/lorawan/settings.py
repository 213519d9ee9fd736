"""The table [listeners.lorawan]."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from broker.listening.settings import ListenerSettings, Seconds

Count = Annotated[int, Meta(ge=1)]
#: A row of `regions.REGIONS`; a test keeps the two equal.
RegionName = Literal["eu868", "cn470", "as923", "as923-2", "as923-3", "as923-4"]


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
    #: Seconds from the end of an uplink to RX1; RX2 is one second later. Told at a join; without one it is 1.
    rx1_delay: Annotated[int, Meta(ge=1, le=15)] = 1
    #: RX1DROffset. Told at a join; without one it is 0.
    rx1_offset: Annotated[int, Meta(ge=0, le=5)] = 0
    #: Seconds that a gateway has for its TX_ACK. Silence is consent with version 1 only.
    tx_ack_timeout: Seconds = 3.0
    #: dBm that gateways send with; 0: as the region has it.
    power: Annotated[int, Meta(ge=0, le=30)] = 0
    #: Whether gateways are kept within the duty cycles of their region.
    duty_cycle: bool = True
    #: Seconds that a class C mote is left alone after an unconfirmed downlink.
    class_c_gap: Seconds = 1.0
    #: Seconds in which it has to answer a confirmed one.
    class_c_timeout: Seconds = 8.0
    #: Which eight of the 96 channels of CN470 the gateways hear: 0 (470.3 MHz and on) to 11; motes are told after their
    #: first frame. -1: motes are set to them by themselves.
    cn470_block: Annotated[int, Meta(ge=-1, le=11)] = -1
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
