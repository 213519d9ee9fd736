"""What the documents print of each region, typed in from them: nothing here is computed by the code under test.

LoRaWAN 1.0.3 Regional Parameters rev. A, for the new plans of CN470 and the groups of AS923 RP002-1.0.4. Channels are
rows of (number of the first, MHz of the first, MHz of the last, kHz between, how many, least and largest data rate).
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    name: str
    family: str
    #: By number, as Semtech's JSON has them; None where the table says RFU.
    rates: list[str | int | None]
    up: list[tuple[int, str, str, int, int, int, int]]
    #: The same without data rates; empty: RX1 is where the uplink was.
    down: list[tuple[str, str, int, int]]
    rx2: tuple[str, int]
    #: Lines of the RX1 table by uplink data rate; the columns are RX1DROffset 0 and on.
    rx1: list[str]
    rx1_dwell: list[str]
    #: M by data rate, 0 where there is none: without dwell time, for repeaters, with 400 ms.
    sizes: list[int]
    repeater: list[int]
    dwell: list[int]
    max_eirp: float
    #: The largest TXPower.
    powers: int
    #: (ChMaskCntl of "all on", of "all off", of blocks).
    controls: tuple[int | None, int | None, int | None]
    #: Data rates of uplinks and of downlinks.
    directions: tuple[str, str]
    power: int
    #: (MHz, MHz, percent)
    bands: list[tuple[str, str, float]] = []  # a table
    extra: list[str] = []
    cf_list: int | None = 0
    dwell_up: bool = False


SF_125: list[Any] = ["SF12BW125", "SF11BW125", "SF10BW125", "SF9BW125", "SF8BW125", "SF7BW125"]
SF_500: list[Any] = ["SF12BW500", "SF11BW500", "SF10BW500", "SF9BW500", "SF8BW500", "SF7BW500"]
SLOWER_BY_OFFSET = ["0 0 0 0 0 0", "1 0 0 0 0 0", "2 1 0 0 0 0", "3 2 1 0 0 0", "4 3 2 1 0 0", "5 4 3 2 1 0"]
CN470_NEW = [
    "0 0 0 0 0 0",
    "1 1 1 1 1 1",
    "2 1 1 1 1 1",
    "3 2 1 1 1 1",
    "4 3 2 1 1 1",
    "5 4 3 2 1 1",
    "6 5 4 3 2 1",
    "7 6 5 4 3 2",
]
AS923_UP_TO_5 = [
    "0 0 0 0 0 0 1 2",
    "1 0 0 0 0 0 2 3",
    "2 1 0 0 0 0 3 4",
    "3 2 1 0 0 0 4 5",
    "4 3 2 1 0 0 5 5",
    "5 4 3 2 1 0 5 5",
    "5 5 4 3 2 1 5 5",
    "5 5 5 4 3 2 5 5",
]
AS923_UP_TO_5_DWELL = [
    "2 2 2 2 2 2 2 2",
    "2 2 2 2 2 2 2 3",
    "2 2 2 2 2 2 3 4",
    "3 2 2 2 2 2 4 5",
    "4 3 2 2 2 2 5 5",
    "5 4 3 2 2 2 5 5",
    "5 5 4 3 2 2 5 5",
    "5 5 5 4 3 2 5 5",
]
AS923_UP_TO_7 = [
    "0 0 0 0 0 0 1 2",
    "1 0 0 0 0 0 2 3",
    "2 1 0 0 0 0 3 4",
    "3 2 1 0 0 0 4 5",
    "4 3 2 1 0 0 5 6",
    "5 4 3 2 1 0 6 7",
    "6 5 4 3 2 1 7 7",
    "7 6 5 4 3 2 7 7",
]
AS923_UP_TO_7_DWELL = [
    "2 2 2 2 2 2 2 2",
    "2 2 2 2 2 2 2 3",
    "2 2 2 2 2 2 3 4",
    "3 2 2 2 2 2 4 5",
    "4 3 2 2 2 2 5 6",
    "5 4 3 2 2 2 6 7",
    "6 5 4 3 2 2 7 7",
    "7 6 5 4 3 2 7 7",
]
IN865 = [
    "0 0 0 0 0 0 1 2",
    "1 0 0 0 0 0 2 3",
    "2 1 0 0 0 0 3 4",
    "3 2 1 0 0 0 4 5",
    "4 3 2 1 0 0 5 5",
    "5 4 3 2 1 0 5 5",
    "",
    "5 5 5 4 3 2 5 5",
]
US915 = ["10 9 8 8", "11 10 9 8", "12 11 10 9", "13 12 11 10", "13 13 12 11"]
AU915 = [
    "8 8 8 8 8 8",
    "9 8 8 8 8 8",
    "10 9 8 8 8 8",
    "11 10 9 8 8 8",
    "12 11 10 9 8 8",
    "13 12 11 10 9 8",
    "13 13 12 11 10 9",
]
EIGHT = [59, 59, 59, 123, 250, 250, 250, 250]
EIGHT_REPEATER = [59, 59, 59, 123, 230, 230, 230, 230]
AS923_GROUP = [59, 59, 123, 123, 250, 250, 250, 250]
AS923_GROUP_REPEATER = [59, 59, 123, 123, 230, 230, 230, 230]
AS923_DWELL = [0, 0, 19, 61, 133, 250, 250, 250]
CN470_SIZES = [0, 31, 94, 192, 250, 250, 250, 250]
CN470_REPEATER = [0, 31, 94, 192, 230, 230, 230, 230]
US915_SIZES = [19, 61, 133, 250, 250, 0, 0, 0, 61, 137, 250, 250, 250, 250]
US915_REPEATER = [19, 61, 133, 230, 230, 0, 0, 0, 41, 117, 230, 230, 230, 230]
AU915_SIZES = [59, 59, 59, 123, 250, 250, 250, 0, 61, 137, 250, 250, 250, 250]
AU915_REPEATER = [59, 59, 59, 123, 230, 230, 230, 0, 41, 117, 230, 230, 230, 230]
AU915_DWELL = [0, 0, 19, 61, 133, 250, 250, 0, 61, 137, 250, 250, 250, 250]


def _as923(name: str, first: str, second: str, band: tuple[str, str], *, new: bool) -> Row:
    return Row(
        name,
        "as923",
        [*SF_125, "SF7BW250", 50_000],
        [(0, first, second, 200, 2, 0, 5)],
        [],
        (first, 2),
        AS923_UP_TO_7 if new else AS923_UP_TO_5,
        AS923_UP_TO_7_DWELL if new else AS923_UP_TO_5_DWELL,
        AS923_GROUP if new else EIGHT,
        AS923_GROUP_REPEATER if new else EIGHT_REPEATER,
        AS923_DWELL,
        16.0,
        7,
        (6, None, None),
        ("0 1 2 3 4 5 6 7", "0 1 2 3 4 5 6 7"),
        16,
        bands=[(*band, 1.0)],
        dwell_up=True,
    )


def _cn470(
    name: str,
    up: list[tuple[int, str, str, int, int, int, int]],
    down: list[tuple[str, str, int, int]],
    rx2: str,
    controls: tuple[int, int, None],
) -> Row:
    return Row(
        name,
        "cn470",
        [*SF_125, "SF7BW500", 50_000],
        up,
        down,
        (rx2, 1),
        CN470_NEW,
        CN470_NEW,
        CN470_SIZES,
        CN470_REPEATER,
        CN470_SIZES,
        19.15,
        7,
        controls,
        ("0 1 2 3 4 5 6 7", "0 1 2 3 4 5 6 7"),
        16,
        cf_list=1,
    )


ROWS = [
    Row(
        "eu868",
        "eu868",
        [*SF_125, "SF7BW250", 50_000],
        [(0, "868.1", "868.5", 200, 3, 0, 5)],
        [],
        ("869.525", 0),
        [*SLOWER_BY_OFFSET, "6 5 4 3 2 1", "7 6 5 4 3 2"],
        [*SLOWER_BY_OFFSET, "6 5 4 3 2 1", "7 6 5 4 3 2"],
        EIGHT,
        EIGHT_REPEATER,
        EIGHT,
        16.0,
        7,
        (6, None, None),
        ("0 1 2 3 4 5 6 7", "0 1 2 3 4 5 6 7"),
        16,
        bands=[
            ("863", "865", 0.1),
            ("865", "868", 1.0),
            ("868", "868.6", 1.0),
            ("868.7", "869.2", 0.1),
            ("869.4", "869.65", 10.0),
            ("869.7", "870", 1.0),
        ],
        extra=["867.1", "867.3", "867.5", "867.7", "867.9"],
    ),
    Row(
        "cn470",
        "cn470",
        SF_125,
        [(0, "470.3", "489.3", 200, 96, 0, 5)],
        [("500.3", "509.7", 200, 48)],
        ("505.3", 0),
        SLOWER_BY_OFFSET,
        SLOWER_BY_OFFSET,
        EIGHT[:6],
        EIGHT_REPEATER[:6],
        EIGHT[:6],
        19.15,
        7,
        (6, None, None),
        ("0 1 2 3 4 5", "0 1 2 3 4 5"),
        16,
        cf_list=None,
    ),
    _cn470(
        "cn470-a20",
        [(0, "470.3", "476.5", 200, 32, 1, 5), (32, "503.5", "509.7", 200, 32, 1, 5)],
        [("483.9", "490.1", 200, 32), ("490.3", "496.5", 200, 32)],
        "486.9",
        (6, 7, None),
    ),
    _cn470(
        "cn470-b20",
        [(0, "476.9", "483.1", 200, 32, 1, 5), (32, "496.9", "503.1", 200, 32, 1, 5)],
        [("476.9", "483.1", 200, 32), ("496.9", "503.1", 200, 32)],
        "498.3",
        (6, 7, None),
    ),
    _cn470("cn470-a26", [(0, "470.3", "479.7", 200, 48, 1, 5)], [("490.1", "494.7", 200, 24)], "492.5", (3, 4, None)),
    _cn470("cn470-b26", [(0, "480.3", "489.7", 200, 48, 1, 5)], [("500.1", "504.7", 200, 24)], "502.5", (3, 4, None)),
    _as923("as923", "923.2", "923.4", ("923.0", "923.5"), new=False),
    _as923("as923-2", "921.4", "921.6", ("921.2", "921.7"), new=True),
    _as923("as923-3", "916.6", "916.8", ("916.4", "916.9"), new=True),
    _as923("as923-4", "917.3", "917.5", ("917.1", "917.6"), new=True),
    Row(
        "in865",
        "in865",
        [*SF_125, None, 50_000],
        [
            (0, "865.0625", "865.0625", 0, 1, 0, 5),
            (1, "865.4025", "865.4025", 0, 1, 0, 5),
            (2, "865.985", "865.985", 0, 1, 0, 5),
        ],
        [],
        ("866.55", 2),
        IN865,
        IN865,
        [59, 59, 59, 123, 250, 250, 0, 250],
        [59, 59, 59, 123, 230, 230, 0, 230],
        [59, 59, 59, 123, 250, 250, 0, 250],
        30.0,
        10,
        (6, None, None),
        ("0 1 2 3 4 5 7", "0 1 2 3 4 5 7"),
        20,
    ),
    Row(
        "kr920",
        "kr920",
        SF_125,
        [(0, "922.1", "922.5", 200, 3, 0, 5)],
        [],
        ("921.9", 0),
        SLOWER_BY_OFFSET,
        SLOWER_BY_OFFSET,
        EIGHT[:6],
        EIGHT_REPEATER[:6],
        EIGHT[:6],
        14.0,
        7,
        (6, None, None),
        ("0 1 2 3 4 5", "0 1 2 3 4 5"),
        20,
        extra=["922.7", "922.9", "923.1", "923.3"],
    ),
    Row(
        "us915",
        "us915",
        ["SF10BW125", "SF9BW125", "SF8BW125", "SF7BW125", "SF8BW500", None, None, None, *SF_500],
        [(0, "902.3", "914.9", 200, 64, 0, 3), (64, "903.0", "914.2", 1600, 8, 4, 4)],
        [("923.3", "927.5", 600, 8)],
        ("923.3", 8),
        US915,
        US915,
        US915_SIZES,
        US915_REPEATER,
        US915_SIZES,
        30.0,
        10,
        (6, 7, 5),
        ("0 1 2 3 4", "8 9 10 11 12 13"),
        20,
        cf_list=1,
    ),
    Row(
        "au915",
        "au915",
        [*SF_125, "SF8BW500", None, *SF_500],
        [(0, "915.2", "927.8", 200, 64, 0, 5), (64, "915.9", "927.1", 1600, 8, 6, 6)],
        [("923.3", "927.5", 600, 8)],
        ("923.3", 8),
        AU915,
        AU915,
        AU915_SIZES,
        AU915_REPEATER,
        AU915_DWELL,
        30.0,
        10,
        (6, 7, 5),
        ("0 1 2 3 4 5 6", "8 9 10 11 12 13"),
        20,
        cf_list=1,
        dwell_up=True,
    ),
]

#: RP002-1.0.4, 2.9: common join channels of CN470: the plan, MHz up, MHz of RX1, MHz of RX2.
JOINS = [
    ("cn470-a20", "470.9", "484.5", "485.3"),
    ("cn470-a20", "472.5", "486.1", "486.9"),
    ("cn470-a20", "474.1", "487.7", "488.5"),
    ("cn470-a20", "475.7", "489.3", "490.1"),
    ("cn470-a20", "504.1", "490.9", "491.7"),
    ("cn470-a20", "505.7", "492.5", "493.3"),
    ("cn470-a20", "507.3", "494.1", "494.9"),
    ("cn470-a20", "508.9", "495.7", "496.5"),
    ("cn470-b20", "479.9", "479.9", "478.3"),
    ("cn470-b20", "499.9", "499.9", "498.3"),
    ("cn470-a26", "470.3", "492.5", "492.5"),
    ("cn470-a26", "472.3", "492.5", "492.5"),
    ("cn470-a26", "474.3", "492.5", "492.5"),
    ("cn470-a26", "476.3", "492.5", "492.5"),
    ("cn470-a26", "478.3", "492.5", "492.5"),
    ("cn470-b26", "480.3", "502.5", "502.5"),
    ("cn470-b26", "482.3", "502.5", "502.5"),
    ("cn470-b26", "484.3", "502.5", "502.5"),
    ("cn470-b26", "486.3", "502.5", "502.5"),
    ("cn470-b26", "488.3", "502.5", "502.5"),
]
