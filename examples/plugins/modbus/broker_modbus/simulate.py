"""A boiler that is not there, on pymodbus's own server: for a first look without hardware, and for tests.

::

    python -m broker_modbus.simulate --port 5020

    input 0    temperature, tenths of a degree, int16      holding 10    set point, tenths, int16; over 90.0 is refused
    input 1    pressure, hundredths of a bar               coil 0        pump

`MAP` is the map for it, as TOML has it. The server is somebody else's, so that what we say is understood by others. It
needs an asyncio loop, which gets a thread: start and stop it from another one, whichever reactor that has.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from threading import Thread
from typing import Any, Final

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

MAP: Final = """[
    { name = "temperature", table = "input", address = 0, type = "int16", scale = 0.1 },
    { name = "pressure", table = "input", address = 1, scale = 0.01 },
    { name = "set_point", address = 10, type = "int16", scale = 0.1, writable = true },
    { name = "pump", table = "coil", address = 0, type = "bool", writable = true },
]"""
SET_POINT: Final = 10
#: Tenths of a degree; what is more is refused with "illegal data value".
HOTTEST: Final = 900
#: Seconds for the thread to begin or to end.
PATIENCE: Final = 30.0


def free_port() -> int:
    """A port of loopback that nobody has at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Boiler:
    """``unit`` 1 at ``port``. `start` and `stop` block until it listens, or has let everybody go."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = port
        self.temperature = 21.5
        self.pressure = 1.5
        #: Every write that was taken: (function, address, values).
        self.written: list[tuple[int, int, list[Any]]] = []
        self._host = host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: ModbusTcpServer | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), loop).result(PATIENCE)

    def stop(self) -> None:
        """Harmless twice."""
        loop, self._loop = self._loop, None
        if loop is None or self._server is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(self._server), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(PATIENCE)
        loop.close()

    async def run(self) -> None:
        """The same in a loop of one's own, until that ends."""
        await self._listen()
        assert self._server is not None
        await self._server.serving

    async def _listen(self) -> None:
        device = SimDevice(
            id=1,
            simdata=(
                [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
                [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
                [SimData(SET_POINT, values=[210], datatype=DataType.REGISTERS)],
                [SimData(0, values=[0, 0], datatype=DataType.REGISTERS)],
            ),
            action=self._asked,
        )
        server = self._server = ModbusTcpServer(context=device, address=(self._host, self.port))
        await server.serve_forever(background=True)

    @staticmethod
    async def _close(server: ModbusTcpServer) -> None:
        await server.shutdown()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _asked(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """pymodbus asks before it answers: ``registers`` begin at ``start``."""
        if function == 4:
            registers[:] = [round(self.temperature * 10) & 0xFFFF, round(self.pressure * 100) & 0xFFFF]
        if values is not None:
            if address == SET_POINT and values[0] > HOTTEST:
                return ExcCodes.ILLEGAL_VALUE
            self.written.append((function, address, list(values)))
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description="A boiler that speaks Modbus/TCP, unit 1.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5020)
    options = parser.parse_args()
    print(f"a boiler at {options.host}:{options.port}, unit 1; Ctrl-C stops it", flush=True)
    try:
        asyncio.run(Boiler(options.port, options.host).run())
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
