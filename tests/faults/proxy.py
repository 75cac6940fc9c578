"""A wire between two TCP ports that can be cut, fall silent, or be slow."""

import socket
import threading
import time
from contextlib import suppress
from math import inf

CHUNK = 1 << 12


class Proxy:
    """Passes bytes between whoever dials ``port`` and ``target`` on this machine.

    ``dialled`` counts connections, ``carried`` bytes; neither way is faster than ``bytes_per_s``.
    """

    def __init__(self, target: int, bytes_per_s: float = inf) -> None:
        self.target, self.bytes_per_s = target, bytes_per_s
        self.dialled = self.carried = 0
        self._whole, self._speaks = threading.Event(), threading.Event()
        self._ends: set[socket.socket] = set()
        self._connections: list[threading.Thread] = []
        self.port = 0
        self._listen()
        self.heal()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut(self) -> None:
        """Nobody can dial, and every connection ends."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()

    def slam(self) -> None:
        """Every connection ends, and others end as soon as they have begun."""
        self._whole.clear()
        self._hang_up()

    def hush(self) -> None:
        """Connections stay and begin, and nothing comes through."""
        self._speaks.clear()

    def heal(self) -> None:
        """Bytes come through, those that waited first."""
        if self._listener.fileno() < 0:
            self._listen()
        self._whole.set()
        self._speaks.set()

    def close(self) -> None:
        """Nothing is left."""
        self._speaks.set()
        self.cut()
        for connection in self._connections:
            connection.join()

    def _hang_up(self) -> None:
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                self.dialled += 1
                connection = threading.Thread(target=self._connect, args=[near], daemon=True)
                self._connections.append(connection)
                connection.start()

    def _connect(self, near: socket.socket) -> None:
        """Passes bytes both ways until either end hangs up."""
        with suppress(OSError), near:
            if not self._whole.is_set():
                return
            with socket.create_connection(("127.0.0.1", self.target)) as far:
                self._ends |= {near, far}
                back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
                back.start()
                self._pump(near, far)
                back.join()
                self._ends -= {near, far}

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                time.sleep(len(chunk) / self.bytes_per_s)
                self._speaks.wait()
                sink.sendall(chunk)
                self.carried += len(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
