"""What happens to the fleet that somebody should know of: events, the rules that choose among them, and sinks.

::

    emit(kind, device, details) ──> waiting (memory) ──> journal (disk) ──> watchers: stream
                                                     └─> one queue a sink (same commit) ──> webhook, e-mail

`broker.events.events.Events` is what the rest of the broker knows (``core.events``); which kinds there are is in
`catalogue`.
"""
