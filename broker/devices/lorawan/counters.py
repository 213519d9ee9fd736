"""What LoRaWAN counts beyond what every listener does."""

from __future__ import annotations

from typing import Final

#: {counter: what it counts}
COUNTERS: Final[dict[str, str]] = {
    "bad_datagrams": "datagrams that are not of the protocol, or whose JSON is not",
    "bad_packets": "received packets in them that are unusable: base64, size, frequency, data rate",
    "bad_crc": "packets that the gateway received damaged",
    "bad_frames": "packets that are no LoRaWAN uplinks",
    "unknown_gateways": "datagrams of gateways that are not registered",
    "wrong_address": "datagrams of a gateway from another address than the one it is bound to",
    "duplicates": "the same frame from another gateway",
    "too_many_frames": "frames over max_frames",
    "unknown_addresses": "data frames with an address that no mote has",
    "bad_mics": "frames whose MIC is wrong",
    "replays": "genuine frames that came before",
    "repetitions": "frames that a mote sent again",
    "frames": "data frames that were taken",
    "joins": "motes that were let in",
    "unknown_motes": "join-requests of motes that are not registered, or of another JoinEUI",
    "nonce_reuse": "join-requests with a DevNonce that was used before",
    "joins_refused": "join-requests that could not be answered: too many, storage away, no window left",
    "unread_commands": "MAC commands that could not be read",
    "downlinks": "PULL_RESP that were sent",
    "tx_errors": "TX_ACK with an error",
    "tx_silent": "PULL_RESP that no TX_ACK came for",
    "stray_acks": "TX_ACK for nothing that is waited for",
    "late": "downlinks for which no window was left",
    "busy": "downlinks for which no gateway was free",
    "duty": "downlinks that a duty cycle did not allow",
    "counters_unsaved": "times that frame counters could not be written",
}


class LorawanCounters:
    """Plain integers since the start; the names are those of `COUNTERS`."""

    __slots__ = tuple(COUNTERS)

    def __init__(self) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)

    def as_dict(self) -> dict[str, float]:
        """By name, as the metrics want them."""
        return {f"lorawan_{name}": getattr(self, name) for name in COUNTERS}
