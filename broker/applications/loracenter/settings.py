"""The table [listeners.loracenter]."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from broker.listening.settings import Limits, ListenerSettings, Seconds

Count = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[float, Meta(ge=0)]


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Customer servers. The limit on a message is ``limits.max_message_size``."""

    bind: tuple[str, ...] = ("tcp:6666",)
    limits: Limits = Limits(max_connections=2_000, max_message_size=65_536, max_outbox=4_194_304)
    #: Whether applications that were registered without an app_key may register without a proof. Those that have one
    #: always need it.
    unproven: bool = False
    #: Seconds from a refused CSREG to the end of the connection: some clients read nothing that comes with it.
    refused_grace: Seconds = 1.0
    #: Commands before CSREG, and before that messages that are none, after which a connection is closed.
    max_early: Count = 3
    #: Messages in a row that are none (no JSON object) after which a registered connection is closed.
    max_malformed: Count = 100
    #: ServiceIds of one customer server that may be connected at once.
    max_services: Count = 16
    #: SENDTOs of one connection that may be on their way to the disk; past this it is read no further.
    max_pending: Count = 64
    #: Seconds in which nothing, not even a NUL, came; 0: no limit, the document has none.
    idle_timeout: NonNegative = 0.0
    #: Seconds that what waits for a customer server may be more than max_outbox; what comes meanwhile is dropped.
    overflow_grace: Seconds = 5.0
    #: SENDTOs that may wait for one mote; the next one is answered with -4.
    max_queued: Count = 32
    #: Seconds that a SENDTO waits for its mote; then it is answered with -6.
    queue_time: Seconds = 86_400.0
    #: Whether ports outside 20 to 223 are refused, as the document has it.
    strict_ports: bool = False
    #: Port on which devices upload that are no motes.
    foreign_port: Annotated[int, Meta(ge=1, le=255)] = 1
    #: MSG of the answer to QUERYLEN is the number, which is in Qlen in any case.
    queue_length_in_msg: bool = False
    #: UPLOADSQ after each UPLOAD of a mote, and for each DevStatusAns (signalQualityUpload).
    signal_quality_upload: bool = False
    #: Seconds between two BROADCASTs of one customer server.
    broadcast_interval: NonNegative = 900.0
    #: The largest TryCnt.
    max_broadcast_tries: Annotated[int, Meta(ge=1, le=100)] = 10
    #: Which packet forwarders a customer server may ask about and hears of: all, or none.
    gateways: Literal["all", "none"] = "all"
    #: CODE of a GETGWINFO that succeeded: as printed, or 1 as everywhere else.
    gateway_info_code: Literal[0, 1] = 0
    #: STATE of a gateway that went off-line: the document's word.
    offline_word: Annotated[str, Meta(pattern="^[A-Z]{1,16}$")] = "OFFLIN"
