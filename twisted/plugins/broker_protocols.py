"""The built-in protocols, declared as any other package would declare its own."""

from broker.listening.plugin import ProtocolPlugin

novacloud = ProtocolPlugin("novacloud", "NovaCloud devices: JSON lines over TCP", "broker.devices.novacloud")
gateway88 = ProtocolPlugin("gateway88", "0x88 gateways: acknowledged frames over TLS", "broker.devices.gateway88")
files = ProtocolPlugin("files", "Files that 0x88 gateways fetch and post", "broker.devices.gateway88.files")
mqtt = ProtocolPlugin("mqtt", "MQTT 3.1, 3.1.1 and 5.0 for applications", "broker.applications.mqtt")
http = ProtocolPlugin("http", "HTTP API, event stream and metrics", "broker.applications.http")
lorawan = ProtocolPlugin("lorawan", "LoRaWAN motes behind Semtech packet forwarders", "broker.devices.lorawan")
gservice = ProtocolPlugin("gservice", "Gizwits devices and apps: GService and Open API", "broker.applications.gizwits")
loracenter = ProtocolPlugin(
    "loracenter", "LoRaCenter customer servers: NUL-delimited JSON over TCP", "broker.applications.loracenter"
)
