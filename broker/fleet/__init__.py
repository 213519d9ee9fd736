"""Fleets: campaigns, which bring firmware to many devices (`broker.fleet.campaigns`).

::

    calls ──> Campaigns ──> Run, one for each open campaign ──> core.updaters[protocol] ──> devices
                 ▲             │  waiting, at work                        │
                 │             └──> store: a line a device                │
                 └───────────── what devices have done and report ────────┘

The package knows no protocol; a protocol takes part with an `IUpdater` (`broker.model.interfaces`).
"""
