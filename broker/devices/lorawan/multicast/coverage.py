"""Which gateway to send through next, so that few reach all: greedy set cover, one step at a time, sans-IO.

Each member is a target, and reached by any gateway near it. The gateway that reaches most of the targets that are left
is taken; whoever takes a step at a time can look anew after each, at what was refused and who came on-line. The greedy
way needs at most ln(n) + 1 times as many gateways as the best one would (Chvatal 1979), and mostly just as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from broker.devices.lorawan.gateway import Gateway

#: Gateways that reach a target, the best first.
Target = Sequence[Gateway]


def best(targets: Iterable[Target], usable: Callable[[Gateway], bool]) -> Gateway | None:
    """The usable gateway that reaches most targets; None where none reaches any.

    Of several that reach as many: the one with the least to do, then the one that its targets hear best. ``usable`` is
    asked once for each gateway.
    """
    reached: dict[Gateway, int] = {}
    ranks: dict[Gateway, int] = {}
    answers: dict[Gateway, bool] = {}
    for target in targets:
        for rank, gateway in enumerate(target):
            if gateway not in answers:
                answers[gateway] = usable(gateway)
            if answers[gateway]:
                reached[gateway] = reached.get(gateway, 0) + 1
                ranks[gateway] = ranks.get(gateway, 0) + rank
    return max(
        reached,
        key=lambda gateway: (reached[gateway], -gateway.load, -ranks[gateway], gateway.eui),
        default=None,
    )
