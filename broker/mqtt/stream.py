"""The loops of an MQTT connection: a chunk is walked over once, and what is plain is done on the way.

A PUBLISH or PUBACK costs no object and no call it can do without: its topic is looked up in ``_routes``, which holds
only topics that this client may publish on and whose names are known to be good; everything else goes through the
decoder, to `_packet`. Statement numbers are those of MQTT 3.1.1.
"""

from __future__ import annotations

from typing import Any, Final

from broker.mqtt import packets as p
from broker.mqtt.codec import Decoder, frame, publish_run
from broker.mqtt.delivery import Plan, distribute, plan_of
from broker.mqtt.encode import pubcomp, publish_head
from broker.mqtt.host import Server
from broker.mqtt.intake import Intake
from broker.mqtt.message import Message
from broker.mqtt.packets import MQTT_5, ProtocolError
from broker.mqtt.session import Session

#: First bytes of the packets that the loops take apart by themselves.
_PUBLISH_0: Final = 0x30
_PUBLISH_1: Final = 0x32
_PUBACK: Final = 0x40
_PUBREC: Final = 0x50
_PUBREL: Final = 0x62
_PUBCOMP: Final = 0x70
_EXACTLY_ONCE: Final = frozenset((_PUBREC, _PUBREL, _PUBCOMP))


class Stream(Intake):
    """The part of an MQTT connection that reads."""

    __slots__ = ("_decoder", "_last_packet", "_short")

    def __init__(self, server: Server, host: str, port: int = 0) -> None:
        super().__init__(server, host, port)
        self._decoder = Decoder(server.limits.max_message_size, highest_level=MQTT_5)
        self._last_packet = 0.0
        #: Logged in, not of 5.0, not leaving: `_one` may look at what comes.
        self._short = False

    def _packet(self, packet: p.Packet) -> None:
        """A packet that is off the short way."""
        raise NotImplementedError

    def _one(self, data: bytes) -> bool:  # noqa: C901 - as `_run`
        """Take a chunk of four bytes or more that is one plain packet of 3.1.1, and no part of another one, and count
        it. False: it is something else, and nothing was done. Raises ProtocolError.
        """
        size = len(data)
        if size != data[1] + 2 or data[1] > 127:
            return False
        first = data[0]
        if first == _PUBACK and size == 4:
            if data[2:] == b"\0\0":
                return False
            session: Any = self._session
            session.acknowledged(data[2] << 8 | data[3])
        elif first == _PUBLISH_0 or (first == _PUBLISH_1 and size > 5):
            rest = 4 + (data[2] << 8 | data[3])
            route = self._routes.get(data[4:rest])
            watched = None
            if route is None and first == _PUBLISH_0:
                watched = self._watched.get(data[4:rest])
                if watched is not None:
                    route = watched.route
            if route is None or route.generation != self._server.topics.generation:
                return False
            plan: Plan | None = route.plan
            if plan is None or plan.mixed or rest > size:
                return False
            if first == _PUBLISH_0:
                if watched is not None and not watched.look(data[rest:]):
                    self.home.stats.drop("malformed")
                else:
                    for receiver in plan.offered:
                        receiver.offer_alone(data)
            else:
                packet_id = data[rest : rest + 2]
                if plan.at_most_once or plan.keepers or rest + 2 > size or packet_id == b"\0\0":
                    return False
                for receiver in plan.at_least_once:
                    receiver.deliver(data[:rest], data[rest + 2 :], True)
                if self._acks.count or self.outbox.blocked:
                    self._acks.add(b"\x40\x02" + packet_id)
                    self._look_at_what_waits()
                else:
                    self.outbox.put_alone(b"\x40\x02" + packet_id)
        else:
            return False
        home = self.home
        stats = home.stats
        stats.bytes_in += size
        stats.messages_in += 1
        self.messages_in += 1
        self._last_packet = home.monotonic()
        if home.limits.max_message_rate:
            self.charge(1)
        return True

    def _look_at_what_waits(self) -> None:
        """Read no further if that is too much."""
        if self._acks.count:
            self._read_no_further()  # what waits behind an answer that waits for the disk counts, too
        outbox = self.outbox
        # Only a socket that is full says when it has room again (`writable`).
        if outbox.blocked and outbox.size > outbox.limit and not self.closing:
            self.pause("outbox")  # it sends, but does not read what we answer

    def _run(self, data: bytes) -> None:  # noqa: C901, PLR0915 - one loop: each call that it saves counts
        session = self._session
        assert session is not None
        decoder = self._decoder
        index = self._server.topics
        routes = self._routes
        limit = decoder.max_packet_size
        size = len(data)
        offset = count = position = waiting = 0
        ids: list[bytes] = []  # of what is still to be acknowledged, once the journal has come to `position`
        try:
            while offset + 1 < size:
                first = data[offset]
                length = data[offset + 1]
                if length < 128:
                    body = offset + 2
                    end = body + length
                else:
                    body, end = frame(data, offset, limit)
                    if not end:
                        break
                if end > size:
                    break
                count += 1
                if first == _PUBLISH_0:
                    rest = body + 2
                    if rest <= end:
                        rest += data[body] << 8 | data[body + 1]
                    if rest > end:
                        raise ProtocolError("truncated")
                    topic = data[body + 2 : rest]
                    route = routes.get(topic)
                    if route is not None and route.generation == index.generation:
                        step = end - offset
                        if end + 1 < size and data[end + 1] == length and data.startswith(data[offset:rest], end):
                            end = publish_run(data, offset, rest, end)
                        copies = (end - offset) // step
                        count += copies - 1
                        plan: Plan = route.plan or plan_of(route)
                        if plan.mixed:
                            for at in range(offset, end, step):
                                payload = data[at + rest - offset : at + step]
                                distribute(plan, Message(topic, payload, 0, sender=session))
                        elif plan.offered:
                            packet = data[offset:end]
                            for receiver in plan.offered:
                                receiver.offer(packet, copies)
                        offset = end
                        continue
                elif first == _PUBLISH_1:
                    rest = body + 2
                    if rest <= end:
                        rest += data[body] << 8 | data[body + 1]
                    if rest + 2 > end:
                        raise ProtocolError("truncated")
                    packet_id = data[rest : rest + 2]
                    if packet_id == b"\0\0":
                        raise ProtocolError("packet_id")
                    topic = data[body + 2 : rest]
                    route = routes.get(topic)
                    if route is not None and route.generation == index.generation:
                        plan = route.plan or plan_of(route)
                        if not plan.mixed:
                            head = data[offset:rest]
                            if end + 1 < size and data[end + 1] == length and data.startswith(head, end):
                                run = data[offset : publish_run(data, offset, rest, end)]
                                found, at = self._take_run(plan, run, rest - offset, end - offset)
                                ids += found
                                position = at or position
                                waiting += len(found) * (end - rest - 2)
                                count += len(found) - 1
                                offset += len(found) * (end - offset)
                                continue
                            payload = data[rest + 2 : end]
                            for receiver in plan.at_least_once:
                                receiver.deliver(head, payload)
                            if plan.at_most_once:
                                packet = publish_head(topic, len(payload)) + payload
                                for receiver in plan.at_most_once:
                                    receiver.offer(packet)
                            for keeper in plan.keepers:
                                position = keeper.keep(plan, head, payload) or position
                            ids.append(packet_id)
                            waiting += len(payload)
                            offset = end
                            continue
                elif first == _PUBACK and length == 2:
                    end = session.acknowledged_run(data, offset)
                    count += (end - offset) // 4 - 1
                    offset = end
                    continue
                if ids:  # answers keep the order of what they answer
                    self._acknowledge(ids, position, waiting)
                    ids = []
                    position = waiting = 0
                if first in _EXACTLY_ONCE and length == 2 and data[body : body + 2] != b"\0\0":
                    self._exactly_once(session, first, data[body] << 8 | data[body + 1])
                elif first == _PUBLISH_0:
                    self._publish(topic, data[rest:end], 0, 0)
                elif first == _PUBLISH_1:
                    self._publish(topic, data[rest + 2 : end], 1, packet_id[0] << 8 | packet_id[1])
                else:
                    self._packet(decoder.decode(data, offset, body, end))
                if self.closing:
                    return
                offset = end
            if offset < size:
                decoder.keep(data, offset)
        finally:
            if ids:
                self._acknowledge(ids, position, waiting)
            self.account(count)

    def _exactly_once(self, session: Session, first: int, packet_id: int) -> None:
        """PUBREC, PUBREL or PUBCOMP of four bytes: what `_packet` does, without a packet (§4.3.3)."""
        if first == _PUBREC:
            session.received(packet_id)
        elif first == _PUBCOMP:
            session.completed(packet_id)
        else:
            self.reply_at(session.let_go(packet_id), pubcomp(packet_id))

    def _take_run(self, plan: Plan, run: bytes, at: int, step: int) -> tuple[list[bytes], int]:
        """QoS 1 packets of ``step`` bytes with one head, which ends at ``at``, to plain receivers.

        Their ids, up to the first that may not be, and the position that their acknowledgement has to wait for.
        """
        ids = [run[one : one + 2] for one in range(at, len(run), step)]
        if b"\0\0" in ids:
            del ids[ids.index(b"\0\0") :]
            run = run[: len(ids) * step]
        for receiver in plan.at_least_once:
            receiver.deliver_run(run, at, step)
        if plan.at_most_once:
            head = publish_head(plan.name, step - at - 2)
            packets = b"".join([head + run[one + at + 2 : one + step] for one in range(0, len(run), step)])
            for receiver in plan.at_most_once:
                receiver.offer(packets, len(ids))
        position = 0
        for keeper in plan.keepers:
            position = keeper.keep_run(plan, run, at, step) or position
        return ids, position

    def _acknowledge(self, ids: list[bytes], position: int, size: int) -> None:
        """PUBACK for messages of one chunk, which share a place; ``size``: bytes of their payloads."""
        packets = b"\x40\x02" + b"\x40\x02".join(ids)
        if position > self._server.committed:
            self._acks.add_at(position, packets, size, count=len(ids))
            self._server.wait(self)
            self._read_no_further()
        else:
            self._acks.add(packets, len(ids))

    def _run5(self, data: bytes) -> None:  # noqa: PLR0915 - as above
        """The same for 5.0. A message without properties goes on as it came where all receivers are new ones."""
        session: Any = self._session
        decoder = self._decoder
        index = self._server.topics
        routes = self._routes
        size = len(data)
        offset = count = 0
        try:
            while offset + 1 < size:
                body, end = decoder.frame(data, offset)
                if not end or end > size:
                    break
                count += 1
                first = data[offset]
                if first in (_PUBLISH_0, _PUBLISH_1):
                    rest = body + 2
                    if rest <= end:
                        rest += data[body] << 8 | data[body + 1]
                    at = rest + 2 if first == _PUBLISH_1 else rest
                    if at < end and not data[at]:
                        topic = data[body + 2 : rest]
                        route = routes.get(topic)
                        packet_id = data[rest] << 8 | data[rest + 1] if first == _PUBLISH_1 else 0
                        if (
                            route is not None
                            and route.generation == index.generation
                            and (first == _PUBLISH_0 or (packet_id and not self._too_many(session, 1, packet_id)))
                        ):
                            plan: Plan = route.plan or plan_of(route)
                            if plan.mixed_5 or not plan.everyone_5:
                                message = Message(topic, data[at + 1 : end], first >> 1 & 3, sender=session)
                                self._forward(route, message, packet_id)
                            elif first == _PUBLISH_0:
                                step = end - offset
                                if data.startswith(data[offset : at + 1], end):
                                    end = publish_run(data, offset, at + 1, end)
                                copies = (end - offset) // step
                                count += copies - 1
                                packet = data[offset:end]
                                for receiver in plan.everyone_5:
                                    receiver.offer(packet, copies)
                            else:
                                self._pass_on(plan, topic, data[offset:rest], data[at:end])
                                self._acks.add(b"\x40\x02" + data[rest:at])
                            offset = end
                            continue
                        if self.closing:
                            return
                elif first == _PUBACK and end - body == 2:
                    packet_id = data[body] << 8 | data[body + 1]
                    if packet_id:
                        session.acknowledged(packet_id)
                        offset = end
                        continue
                self._packet(decoder.decode(data, offset, body, end))
                if self.closing:
                    return
                offset = end
            decoder.keep(data, offset)
        finally:
            self.account(count)

    def _pass_on(self, plan: Plan, topic: bytes, head: bytes, tail: bytes) -> None:
        """A message that came at QoS 1 with no property, to clients of 5.0 alone, as it is."""
        for receiver in plan.at_least_once_5:
            receiver.deliver(head, tail)
        if plan.at_most_once_5:
            packet = publish_head(topic, len(tail)) + tail
            for receiver in plan.at_most_once_5:
                receiver.offer(packet)
