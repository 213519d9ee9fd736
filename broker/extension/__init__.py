"""The public names: what a package of somebody else may use to bring a protocol, or a sink, of its own.

::

    broker.listening.plugin      ProtocolPlugin: how a package makes itself known; its plugin file imports nothing else
    broker.extension             everything that the package works with
    broker.extension.testing     a broker in the process of a test

What is here stays: a test fails when a name goes, or takes other arguments, before anybody else has to notice. All
other modules of the broker may change from one version to the next. ``docs/extending.md`` is the guide,
``docs/public-names.md`` the list with every signature.
"""

from __future__ import annotations

from broker.applications.ordering import CommandBody, order, parse_body
from broker.core import Core
from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.listening.settings import Count, Limits, ListenerSettings, Seconds, Size
from broker.listening.stats import Gauge, ListenerStats
from broker.model.errors import (
    BrokerError,
    Conflict,
    DeviceOffline,
    Disabled,
    Forbidden,
    Invalid,
    LimitExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from broker.model.interfaces import (
    IBackplane,
    IConsumer,
    IDeviceLink,
    IFarConsumer,
    IListenerSide,
    IProtocol,
    ITracedLink,
)
from broker.model.jsontext import decode as decode_json
from broker.model.jsontext import decode_object as decode_json_object
from broker.model.jsontext import encode as encode_json
from broker.model.messages import (
    CANCELLED,
    DATA,
    EVENT,
    EXPIRED,
    FAILED,
    FINAL_STATES,
    LOG,
    PENDING,
    QUEUED,
    RAW,
    SENT,
    STATUS,
    SUCCEEDED,
    TIMED_OUT,
    Command,
    DeviceRef,
    Payload,
    Presence,
    Reply,
    Uplink,
    payload_bytes,
    payload_object,
)
from broker.model.names import CLOSE_REASONS, DROP_REASONS, PRESENCE_REASONS
from broker.model.records import Actuator, DeviceQuery, DeviceRecord, Product, Sensor
from broker.model.secrets import make_secret
from broker.routing.commands import Commands
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues
from broker.storage.registry import Change, DeviceRules, Login, Registry

__all__ = [
    "CANCELLED",
    "CLOSE_REASONS",
    "DATA",
    "DROP_REASONS",
    "EVENT",
    "EXPIRED",
    "FAILED",
    "FINAL_STATES",
    "LOG",
    "PENDING",
    "PRESENCE_REASONS",
    "QUEUED",
    "RAW",
    "SENT",
    "STATUS",
    "SUCCEEDED",
    "TIMED_OUT",
    "Actuator",
    "BrokerError",
    "Change",
    "Command",
    "CommandBody",
    "Commands",
    "Conflict",
    "Connection",
    "Core",
    "Count",
    "DeviceOffline",
    "DeviceQuery",
    "DeviceRecord",
    "DeviceRef",
    "DeviceRules",
    "Disabled",
    "Forbidden",
    "Gauge",
    "IBackplane",
    "IConsumer",
    "IDeviceLink",
    "IFarConsumer",
    "IListenerSide",
    "IProtocol",
    "ITracedLink",
    "Invalid",
    "LastValues",
    "LimitExceeded",
    "Limits",
    "Listener",
    "ListenerSettings",
    "ListenerStats",
    "LiveDevice",
    "LiveDevices",
    "Login",
    "NotFound",
    "Payload",
    "Presence",
    "Product",
    "Registry",
    "Reply",
    "Router",
    "Seconds",
    "Sensor",
    "Size",
    "Unauthenticated",
    "Unavailable",
    "Uplink",
    "decode_json",
    "decode_json_object",
    "encode_json",
    "make_secret",
    "order",
    "parse_body",
    "payload_bytes",
    "payload_object",
]
