"""``/api/v1/lorawan/groups``: groups, who is in them, and what is sent to them.

Groups are the administrator's. An application may look at a group, send to it and take back what it has sent, when all
members are bound to it and the group is not another application's: who may command each of them may command all. A
group that it may not use does not exist for it.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from msgspec import UNSET

from broker.core import Core
from broker.devices.lorawan.gateways import Gateways
from broker.devices.lorawan.identity import canonical_eui
from broker.devices.lorawan.motes import Motes
from broker.devices.lorawan.multicast.groups import Group, Message
from broker.devices.lorawan.multicast.records import GroupRecord
from broker.devices.lorawan.multicast.shapes import (
    GroupChanges,
    GroupFilter,
    GroupKeys,
    GroupMessagePage,
    GroupMessageShape,
    GroupPage,
    GroupPath,
    GroupShape,
    MadeGroup,
    Member,
    MemberPage,
    MemberPath,
    MessagePath,
    MessageTaken,
    NewGroup,
    NewMessage,
    Page,
    group_keys,
    group_shape,
    made_group,
    message_shape,
)
from broker.devices.lorawan.multicast.side import Multicast
from broker.model.errors import BrokerError, Conflict, Forbidden, Invalid, NotFound
from broker.storage import rules
from broker.web.callers import Caller
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, APPLICATION, Call, Route


class GroupCalls:
    """The calls on one network's groups."""

    def __init__(self, core: Core, multicast: Multicast, motes: Motes, gateways: Gateways) -> None:
        self._core = core
        self._multicast = multicast
        self._groups = multicast.groups
        self._messages = multicast.messages
        self._motes = motes
        self._gateways = gateways

    def routes(self) -> list[Route]:
        path = f"{API}/lorawan/groups"
        one = f"{path}/{{id}}"
        member, message = f"{one}/devices/{{dev_eui}}", f"{one}/messages/{{message}}"
        taken = {409: (Problem, "The id or the address is taken"), 429: (Problem, "Too many groups or members")}
        under_way = {409: (Problem, "The address is taken, or a message is being sent")}
        full = {429: (Problem, "Too many members")}
        waiting = {409: (Problem, "The group has no members"), 429: (Problem, "Too many messages wait")}
        over = {409: (Problem, "It has ended")}
        return [
            Route("GET", path, self.list_groups, APPLICATION, query=GroupFilter, answers=GroupPage),
            Route("POST", path, self.add_group, ADMIN, body=NewGroup, answers=MadeGroup, status=201, also=taken),
            Route("GET", one, self.get_group, APPLICATION, answers=GroupShape, path_shape=GroupPath),
            Route(
                "PATCH",
                one,
                self.change_group,
                ADMIN,
                body=GroupChanges,
                answers=GroupShape,
                also=under_way,
                path_shape=GroupPath,
            ),
            Route("DELETE", one, self.delete_group, ADMIN, status=204, path_shape=GroupPath),
            Route("GET", f"{one}/keys", self.get_group_keys, ADMIN, answers=GroupKeys, path_shape=GroupPath),
            Route(
                "GET",
                f"{one}/devices",
                self.list_group_members,
                APPLICATION,
                query=Page,
                answers=MemberPage,
                path_shape=GroupPath,
            ),
            Route("PUT", member, self.add_group_member, ADMIN, status=204, also=full, path_shape=MemberPath),
            Route("DELETE", member, self.delete_group_member, ADMIN, status=204, path_shape=MemberPath),
            Route(
                "POST",
                f"{one}/messages",
                self.send_to_group,
                APPLICATION,
                body=NewMessage,
                answers=MessageTaken,
                status=202,
                also=waiting,
                path_shape=GroupPath,
            ),
            Route(
                "GET",
                f"{one}/messages",
                self.list_group_messages,
                APPLICATION,
                query=Page,
                answers=GroupMessagePage,
                path_shape=GroupPath,
            ),
            Route(
                "GET", message, self.get_group_message, APPLICATION, answers=GroupMessageShape, path_shape=MessagePath
            ),
            Route(
                "DELETE",
                message,
                self.cancel_group_message,
                APPLICATION,
                answers=GroupMessageShape,
                also=over,
                path_shape=MessagePath,
            ),
        ]

    # -- groups ----------------------------------------------------------------------------------------------------

    async def list_groups(self, call: Call) -> GroupPage:
        """The groups, by id; an application's: those that it may send to."""
        wish: GroupFilter = call.query
        found = sorted(
            (
                group
                for group in self._groups
                if may_use(call.caller, group)
                and wish.application in (None, group.record.application)
                and group.id > (wish.cursor or "")
            ),
            key=lambda group: group.id,
        )
        shown = found[: wish.limit]
        more = len(found) > len(shown)
        return GroupPage(items=[self._shape(group) for group in shown], next=shown[-1].id if more else None)

    async def add_group(self, call: Call) -> MadeGroup:
        """Make a group; the answer has its keys."""
        wish: NewGroup = call.body
        random_bytes = self._multicast.random_bytes
        members = [self._dev_eui(text) for text in wish.devices]
        record = GroupRecord(
            id=str(uuid4()) if wish.id is None else rules.key(wish.id, "id"),
            name=rules.name(wish.name),
            region=wish.region or self._multicast.settings.region,
            dev_addr=self._groups.new_address() if wish.dev_addr is None else int(wish.dev_addr, 16),
            mc_nwk_s_key=random_bytes(16) if wish.mc_nwk_s_key is None else bytes.fromhex(wish.mc_nwk_s_key),
            mc_app_s_key=random_bytes(16) if wish.mc_app_s_key is None else bytes.fromhex(wish.mc_app_s_key),
            frequency=wish.frequency,
            data_rate=wish.data_rate,
            gateways=self._known_gateways(wish.gateways),
            application=wish.application,
            created_at=self._core.clock(),
        )
        group = await self._groups.add(record, wish.counter)
        try:
            await self._groups.enter(group.id, members)
        except BrokerError:
            await self._groups.remove(group.id)
            raise
        return made_group(group, self._multicast.settings)

    async def get_group(self, call: Call) -> GroupShape:
        """One group."""
        return self._shape(self._group(call))

    async def get_group_keys(self, call: Call) -> GroupKeys:
        """The address and the keys of a group, for its motes."""
        return group_keys(self._group(call))

    async def change_group(self, call: Call) -> GroupShape:
        """Change a group."""
        wish: GroupChanges = call.body
        changes: dict[str, Any] = {
            name: value for name in wish.__struct_fields__ if (value := getattr(wish, name)) is not UNSET
        }
        counter = changes.pop("counter", None)
        if "name" in changes:
            changes["name"] = rules.name(changes["name"])
        if "dev_addr" in changes:
            changes["dev_addr"] = int(changes["dev_addr"], 16)
        for key in {"mc_nwk_s_key", "mc_app_s_key"} & changes.keys():
            changes[key] = bytes.fromhex(changes[key])
        if "gateways" in changes:
            changes["gateways"] = self._known_gateways(changes["gateways"])
        return self._shape(await self._groups.change(call.path["id"], changes, counter))

    async def delete_group(self, call: Call) -> None:
        """Forget a group, with what waits for it."""
        await self._groups.remove(call.path["id"])

    def _shape(self, group: Group) -> GroupShape:
        return group_shape(group, self._multicast.settings)

    def _group(self, call: Call) -> Group:
        group = self._groups.get(call.path["id"])
        if not may_use(call.caller, group):
            raise NotFound(f"there is no group {call.path['id']!r}"[:200])
        return group

    def _known_gateways(self, texts: list[str]) -> tuple[str, ...]:
        euis = []
        for text in texts:
            eui = canonical_eui(text)
            if eui is None or self._gateways.get(eui) is None:
                raise Invalid(f"gateways: there is no gateway {text!r}")
            euis.append(eui)
        return tuple(dict.fromkeys(euis))

    # -- members ---------------------------------------------------------------------------------------------------

    async def list_group_members(self, call: Call) -> MemberPage:
        """The motes of a group, and whether they can be reached now."""
        wish: Page = call.query
        group = self._group(call)
        found = sorted(dev_eui for dev_eui in group.members if dev_eui > (wish.cursor or ""))
        shown = found[: wish.limit]
        more = len(found) > len(shown)
        return MemberPage(items=[self._member(dev_eui) for dev_eui in shown], next=shown[-1] if more else None)

    def _member(self, dev_eui: str) -> Member:
        mote = self._motes.get(dev_eui)
        near = () if mote is None else mote.near
        reachable = any(gateway.online for gateway in near)
        return Member(dev_eui=dev_eui, gateways=[gateway.eui for gateway in near], reachable=reachable)

    async def add_group_member(self, call: Call) -> None:
        """Take a class C mote into a group."""
        await self._groups.enter(call.path["id"], [self._dev_eui(call.path["dev_eui"])])

    async def delete_group_member(self, call: Call) -> None:
        """Take a mote out of a group. It still has the keys: give the group others if it must not hear it."""
        await self._groups.leave(call.path["id"], self._dev_eui(call.path["dev_eui"]))

    @staticmethod
    def _dev_eui(text: str) -> str:
        dev_eui = canonical_eui(text)
        if dev_eui is None:
            raise Invalid(f"a DevEUI has 16 hexadecimal digits, not {text!r}"[:200])
        return dev_eui

    # -- messages --------------------------------------------------------------------------------------------------

    async def send_to_group(self, call: Call) -> MessageTaken:
        """Send bytes to all members. They are kept when this is answered."""
        wish: NewMessage = call.body
        group, content = self._group(call), wish.content()
        if not group.members and not group.record.gateways:
            raise Conflict(f"the group {group.id!r} has no members")
        settings = self._multicast.settings
        message = await self._messages.accept(
            group,
            content,
            port=wish.port,
            tries=wish.tries,
            priority=settings.default_priority if wish.priority is None else wish.priority,
            expires=self._core.default_expires if wish.expires is None else wish.expires,
            origin=call.caller.name,
            ref=wish.ref,
        )
        return MessageTaken(id=message.record.id, status="queued")

    async def list_group_messages(self, call: Call) -> GroupMessagePage:
        """What was sent to a group and what waits, the newest first."""
        wish: Page = call.query
        found = await self._messages.page(self._group(call), wish.limit + 1, wish.cursor)
        shown = found[: wish.limit]
        more = len(found) > len(shown)
        return GroupMessagePage(
            items=[message_shape(message) for message in shown], next=shown[-1].record.id if more else None
        )

    async def get_group_message(self, call: Call) -> GroupMessageShape:
        """A message and what became of it at each gateway."""
        return message_shape(await self._message(call))

    async def cancel_group_message(self, call: Call) -> GroupMessageShape:
        """Take a message back: what has not been sent of it is not sent any more."""
        group = self._group(call)
        message = await self._message(call)
        if not call.caller.is_admin and message.record.origin != call.caller.name:
            raise Forbidden("only who sent a message may cancel it")
        if message.record.final:
            raise Conflict(f"the message is {message.record.status} and cannot be cancelled any more")
        await self._messages.cancel(group, message)
        return message_shape(message)

    async def _message(self, call: Call) -> Message:
        return await self._messages.find(self._group(call), call.path["message"])


def may_use(caller: Caller, group: Group) -> bool:
    """Whether a caller may send to a group."""
    if caller.is_admin:
        return True
    if group.record.application not in (None, caller.application) or not group.members:
        return False
    return all(caller.may_see(dev_eui) for dev_eui in group.members)
