"""Multicast: one frame that all class C motes of a group hear (LoRaWAN 1.0.3, chapter 17; TS005-1.0.0, chapter 4).

::

    HTTP, BROADCAST ──> messages (on disk) ──> sending ──> transmitter
                            │                    │
                         groups <── coverage ────┘   which gateway next

A group has an address and two session keys that all its motes hold, and a frame counter of its own. `groups` keeps it
and its members, `messages` what waits to be sent, `sending` sends it, one gateway after another, as often as was asked.
"""
