"""Gizwits on the side of people: apps over MQTT and WebSocket, the Open API; and GService, which is for devices too.

::

    side.py        the parts together          listener.py    the HTTP listener          calls/      the Open API
    users.py       who there is, on disk       people.py      who is here now            forms.py    what apps send
    identities.py  apps over MQTT              app_topics.py  what they may do there
    business.py    from apps to devices        consumer.py    from devices to apps
    datapoints.py  P0 bytes <-> attrs          products.py    which product has which
"""

from broker.applications.gizwits.listener import build
from broker.applications.gizwits.settings import Settings

__all__ = ["Settings", "build"]
