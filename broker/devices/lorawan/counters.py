"""What LoRaWAN counts beyond what every listener does."""

from __future__ import annotations


class LorawanCounters:
    """Plain integers since the start."""

    __slots__ = (
        "air_unsaved",
        "bad_crc",
        "bad_datagrams",
        "bad_frames",
        "bad_mics",
        "bad_packets",
        "busy",
        "clashes",
        "counters_unsaved",
        "downlinks",
        "duplicates",
        "duty",
        "frames",
        "joins",
        "joins_refused",
        "late",
        "late_copies",
        "mac_refused",
        "mac_unanswered",
        "multicast_frames",
        "multicasts",
        "nonce_reuse",
        "repetitions",
        "replays",
        "retried",
        "stray_acks",
        "stray_answers",
        "too_many_frames",
        "tx_errors",
        "tx_silent",
        "unknown_addresses",
        "unknown_gateways",
        "unknown_motes",
        "unread_commands",
        "unsent",
        "wrong_address",
    )

    def __init__(self) -> None:
        #: Datagrams that are not of the protocol, or whose JSON is not.
        self.bad_datagrams = 0
        #: Received packets in them that are unusable: base64, size, frequency, data rate.
        self.bad_packets = 0
        #: Packets that the gateway received damaged.
        self.bad_crc = 0
        #: Packets that are no LoRaWAN uplinks.
        self.bad_frames = 0
        #: Datagrams of gateways that are not registered.
        self.unknown_gateways = 0
        #: Datagrams of a gateway from another address than the one it is bound to.
        self.wrong_address = 0
        #: The same frame from another gateway.
        self.duplicates = 0
        #: The same too late for the window: its line is slower than ``deduplication``.
        self.late_copies = 0
        #: Frames over max_frames.
        self.too_many_frames = 0
        #: Data frames with an address that no mote has.
        self.unknown_addresses = 0
        #: Frames whose MIC is wrong.
        self.bad_mics = 0
        #: Genuine frames that came before.
        self.replays = 0
        #: Frames that a mote sent again.
        self.repetitions = 0
        #: Data frames that were taken.
        self.frames = 0
        #: Motes that were let in.
        self.joins = 0
        #: Join-requests of motes that are not registered, or of another JoinEUI.
        self.unknown_motes = 0
        #: Join-requests with a DevNonce that was used before.
        self.nonce_reuse = 0
        #: Join-requests that could not be answered: too many, storage away, no window left.
        self.joins_refused = 0
        #: MAC commands that could not be read.
        self.unread_commands = 0
        #: Answers to MAC commands that nobody had sent.
        self.stray_answers = 0
        #: MAC commands that a mote has said no to.
        self.mac_refused = 0
        #: MAC commands that were given up for a while.
        self.mac_unanswered = 0
        #: Datagrams that the system did not take from us.
        self.unsent = 0
        #: PULL_RESP that were sent.
        self.downlinks = 0
        #: TX_ACK with an error.
        self.tx_errors = 0
        #: PULL_RESP that no TX_ACK came for.
        self.tx_silent = 0
        #: TX_ACK for nothing that is waited for.
        self.stray_acks = 0
        #: Downlinks for which no window was left.
        self.late = 0
        #: Downlinks for which no gateway was free.
        self.busy = 0
        #: Downlinks that a duty cycle did not allow.
        self.duty = 0
        #: Downlinks that a gateway refused and that were given to another, or to another window.
        self.retried = 0
        #: Downlinks that were sent although another gateway near the mote sends on the same channel.
        self.clashes = 0
        #: Times that air time could not be written.
        self.air_unsaved = 0
        #: Messages to groups that were taken, and emissions of them that gateways took.
        self.multicasts = 0
        self.multicast_frames = 0
        #: Times that frame counters could not be written.
        self.counters_unsaved = 0

    def as_dict(self) -> dict[str, float]:
        """By name, as the metrics want them."""
        return {f"lorawan_{name}_total": getattr(self, name) for name in self.__slots__}
