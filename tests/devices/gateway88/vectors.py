"""Frames whose bytes are settled: gateway 02:12:34:56:78:9A. ``INFO_PLAIN`` is what the public Java gateway sends."""

from __future__ import annotations

from typing import Any, Final

MAC: Final = bytes.fromhex("02123456789a")
GATEWAY: Final = "02123456789A"

INFO_WRITTEN: Final = bytes.fromhex(
    "88888888000000ad0202123456789a01789c658eb10e823018845fa92068185c24144a400704cabf595ad3d61249442b3cbdd451d7cb77df9d98"
    "7324e8c1107d57e06304944bd144231be04594fdcff4b8234328595bab93cab366f61268bd2fcb3363a122dbb2b2ea92711f68be5cdae8e9dc65"
    "1558c7f49b9f5c054ba11355c4f9d4b5a10703d67cb50225ce8f458aa73e7d1bd7ed7c29d9101a16af1be7fab1fe303c35b7d5838ebab3578af6"
    "1f9b6d485a00dd"
)
INFO_PLAIN: Final = bytes.fromhex(
    "88888888000000870202123456789a01789c558c310e83301004ff72b563e110285c13e50929d1891c60091fc8981084f87b0ed140b933bbbb42"
    "5c06020b0d469a71291dd73da86bb42b30fabdf57adf0af27be1981905edfca530ba9e451b9d881a4fe4ae536d8479e4a9c62a4e8182e0e70ffd"
    "d09188aa4566eae42a53c014dd07ec23cf936dfb03957a31d9003d"
)
INFO: Final[dict[str, Any]] = {
    "type": "gateway_info",
    "gateway_info": {
        "name": "GW-Demo",
        "type": 1,
        "hwversion": "1.0",
        "swversion": "2.3.1",
        "manufacturer": "Example",
        "channel": 15,
        "netid": 4660,
    },
}
#: The answer of the public Java server.
INFO_ANSWER: Final = bytes.fromhex(
    "88888888000000410202123456789a01789cab562aa92c4855b2524a4f2c492d4fac8ccfcc4bcb57d2512a2d4956b232343780021da5e292c492"
    "d262a0c2fc6ca55a00e15710c400b4"
)
HB_FRAME: Final = bytes.fromhex(
    "88888888000000890202123456789a02789c0d8b4d0f82201880ff12a573f3e0452b83f9c23296e24d9012826cd516f9ebe3fa7ce81f41ba2f1d"
    "b68b196b6c9a8a2cc2e04c472e9376964732cb33ce800302bb4fe88ad3d878e52f4ef9c3277e1bd8c10a5c20567dcd54e74874e13ef6f4155da0"
    "16521af9f0206ee8daa7dabe0db3b7c038c9afa7a2f803d69e2b590028"
)
HB: Final[dict[str, Any]] = {
    "type": "hb",
    "hb": {"totalram": 134217728, "freeram": 50331648, "totaldisk": 16384, "freedisk": 8192},
}
ACK_A: Final = bytes.fromhex("888888880000000a0202123456789a02009a")
ACK_B: Final = bytes.fromhex("888888880202123456789a0002000090")
ACK_C: Final = bytes.fromhex("888888880000000c0202123456789a000200009c")
ACK_D: Final = bytes.fromhex("888888880000000b0202123456789a0200009b")
ACK_FAILED: Final = bytes.fromhex("888888880000000a0202123456789a02019b")
ACKS: Final = (ACK_A, ACK_B, ACK_C, ACK_D)
NEWDEVICES: Final = bytes.fromhex(
    "888888880000002e0202123456789a03789c4badf432488d70caf1cccacf4cca0d338e720f334a0cf7cb49aef4b204008dae09a10010"
)
REMOTE_CONTROL: Final = bytes.fromhex(
    "88888888000000700202123456789a81789c4badf432488d70caf1cccacf4cce0d2b49320eca8930f22b4bca0baa4c322acff471f6ca4a0a0fcc"
    "f4cf2bce8c3432cc06a98b320a3388327233888a48c9480dcf298dcab500a9cb8e8c08ca4804a9cdf4acf0ab722cf77501e30acf3c434b007d9b"
    "23ff00f8"
)
CONTROL: Final[dict[str, Any]] = {"type": "remote_control", "cmd": {"cmd": "getgatewayinfo", "dataid": "1700000001"}}
REMOTE_CONTROL_REPLY: Final = bytes.fromhex(
    "88888888000000900202123456789a81789c1d8cc90e823014457fa97d2646960e312951882ce8b01368d2076d4d44e9f0f5828bb3b9e7e6e854"
    "122d4e968d2fec5dfbe9768d15502d9d6f5207016fe7d24898b1f6f3e6f3c02359bf61dd6defcba57734abc4f6cc156f860125d0696b29688982"
    "2b5162309adbaf7287ad3549d198277f608d2c56f918ee973f91795afc00c2813123008b"
)
CONTROL_REPLY: Final[dict[str, Any]] = {
    "type": "remote_control",
    "ack": {"result": 0, "errormsg": "ok", "cmd": "getgatewayinfo", "dataid": "1700000001"},
}

#: Each frame with DATA: its id, what is in it, and whether base64 is inside the compression.
MESSAGES: Final = (
    (INFO_WRITTEN, 1, INFO, True),
    (INFO_PLAIN, 1, INFO, False),
    (INFO_ANSWER, 1, {"type": "gateway_info", "utc": 1700000000, "status": "ok"}, False),
    (HB_FRAME, 2, HB, True),
    (NEWDEVICES, 3, {"type": "newdevices"}, True),
    (REMOTE_CONTROL, 0x81, CONTROL, True),
    (REMOTE_CONTROL_REPLY, 0x81, CONTROL_REPLY, True),
)
