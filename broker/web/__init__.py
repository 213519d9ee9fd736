"""HTTP for every listener that speaks it: one parser, one way to be limited, refused and counted.

::

    listener.py    WebListener: routes and a surface become a listener     settings.py   WebSettings
    surface.py     who calls, how a refusal looks, how long a body may be  callers.py    Caller
    routes.py      Route, RouteTable, Call                                 answers.py    Answer, one write each
    connection.py  one connection           request.py  one request on its way
    files.py       FileAnswer               uploads.py  Upload, bodies that are read while they come
    websocket.py   WebSocketPeer            forms.py    application/x-www-form-urlencoded
    problems.py    what is refused, as problem documents
"""
