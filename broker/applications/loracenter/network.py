"""What customer servers ask of the LoRaWAN network, whichever process of the broker has that."""

from __future__ import annotations

from typing import Any

from broker.core import Core


async def ask_network(core: Core, name: str, *arguments: Any) -> Any:
    """What the network's method of this name gives (`ILoraNetwork`); ``classes_of`` takes a list of motes.

    None where there is no network. Raises what the method raises, and Unavailable.
    """
    lora = core.lora
    if lora is None:
        return None
    ask = getattr(lora, "ask", None)
    if ask is not None:
        return await ask(name, *arguments)
    if name == "classes_of":
        return [lora.class_of(dev_eui) for dev_eui in arguments[0]]
    return getattr(lora, name)(*arguments)
