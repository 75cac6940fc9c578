"""A TCP relay that counts what goes through it, in a process of its own."""

import asyncio
import bisect
import multiprocessing
import threading
import time
from typing import Any, Self

SPAWN = multiprocessing.get_context("spawn")
SAMPLE_S = 0.02
BLOCK = 1 << 18


class Counted:
    """Listens at ``port`` and passes on to another port of this machine, both ways."""

    def __init__(self, to: int) -> None:
        self._bytes = SPAWN.Array("q", 2)
        ours, theirs = SPAWN.Pipe()
        words = (to, self._bytes, theirs)
        self._process = SPAWN.Process(target=relay, args=words, daemon=True)
        self._process.start()
        self.port: int = ours.recv()
        self._samples: list[tuple[float, int, int]] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._samples.append((time.time(), *self._bytes[:]))

    def until(self, when: float) -> tuple[int, int]:
        """Bytes that had gone to the other port, and come from it, at a moment."""
        place = bisect.bisect_right(self._samples, (when, 1 << 62, 1 << 62))
        return self._samples[place - 1][1:] if place else (0, 0)

    def close(self) -> None:
        """Nobody gets through."""
        self._over.set()
        self._watcher.join()
        self._process.terminate()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def relay(to: int, counted: Any, told: Any) -> None:
    """Serve until terminated; the port goes through ``told``."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: int) -> None:
        try:
            while block := await reader.read(BLOCK):
                counted[place] += len(block)
                writer.write(block)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        except OSError:  # it does not listen yet
            writer.close()
            return
        await asyncio.gather(copy(reader, far_writer, 0), copy(far_reader, writer, 1))

    async def serve() -> None:
        server = await asyncio.start_server(met, "127.0.0.1", 0, limit=BLOCK)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())
