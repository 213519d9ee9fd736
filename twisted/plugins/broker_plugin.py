"""Makes `twistd broker` known. Plugin files only declare: importing more here would install the default reactor."""

from twisted.application.service import ServiceMaker

broker = ServiceMaker(
    "broker",
    "broker.tap",
    "A broker between IoT devices and applications: NovaCloud, 0x88, Gizwits, LoRaWAN, MQTT, HTTP.",
    "broker",
)
