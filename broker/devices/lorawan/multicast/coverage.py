"""Which gateways reach all members, as few as can be told quickly: set cover, sans-IO.

Each member is a target, and reached by any gateway near it. Greedy: whoever reaches most of what is left is taken,
until nothing is left; that needs at most ln(n) + 1 times as many as the least (Chvatal 1979). Then those go whose
targets are all reached by others of the chosen: one in the middle is often taken first and needless in the end.

Members near the same gateways count together, so the work grows with the places and not with the motes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from broker.devices.lorawan.gateway import Gateway

#: Gateways that reach a target, the best first.
Target = tuple[Gateway, ...]


def cover(
    targets: Iterable[Target], usable: Callable[[Gateway], bool], load: Callable[[Gateway], int]
) -> list[Gateway]:
    """Usable gateways that reach every target that any usable one reaches, those that reach most first.

    Of several that reach as many: the one with the least ``load``, then the one that its targets hear best. ``usable``
    and ``load`` are asked once for each gateway.
    """
    places = Counter(targets)
    near: dict[Gateway, dict[Target, int]] = {}
    answers: dict[Gateway, bool] = {}
    for place, count in places.items():
        for rank, gateway in enumerate(place):
            if gateway not in answers:
                answers[gateway] = usable(gateway)
            if answers[gateway]:
                near.setdefault(gateway, {})[place] = rank * count
    loads = {gateway: load(gateway) for gateway in near}
    return _without_needless(_greedy(near, places, loads), near)


def _greedy(
    near: dict[Gateway, dict[Target, int]], places: Counter[Target], loads: dict[Gateway, int]
) -> list[Gateway]:
    """Lazily: what a gateway reaches beyond the others only shrinks, so an old figure is looked at again when first."""

    def entry(gateway: Gateway) -> tuple[int, int, int, str, Gateway]:
        left = [place for place in near[gateway] if place not in reached]
        rank = sum(near[gateway][place] for place in left)
        return -sum(places[place] for place in left), loads[gateway], rank, gateway.eui, gateway

    reached: set[Target] = set()
    heap = [entry(gateway) for gateway in near]
    heapify(heap)
    chosen: list[Gateway] = []
    while heap:
        stale = heappop(heap)
        fresh = entry(stale[-1])
        if not fresh[0]:
            continue
        if fresh != stale:
            heappush(heap, fresh)
            continue
        chosen.append(fresh[-1])
        reached.update(near[fresh[-1]])
    return chosen


def _without_needless(chosen: list[Gateway], near: dict[Gateway, dict[Target, int]]) -> list[Gateway]:
    times = Counter(place for gateway in chosen for place in near[gateway])
    needed: list[Gateway] = []
    for gateway in reversed(chosen):
        if all(times[place] > 1 for place in near[gateway]):
            times.subtract(near[gateway].keys())
        else:
            needed.append(gateway)
    needed.reverse()
    return needed
