"""Makes the sink known to `twistd broker`. Plugin files only declare."""

from broker.listening.plugin import ProtocolPlugin

nats = ProtocolPlugin("nats", "Publishes messages, presence and commands to NATS", "broker_nats")
