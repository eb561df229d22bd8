"""A Faust worker without Kafka that hosts a service with its own thread, as the engine will be hosted.

Run it as ``python -m tests.kafka.faust_host -l info worker`` with FAUST_HOST_PORT, FAUST_HOST_FILE and FAUST_DATADIR
set; the thread appends what happens to it to the file, one word a line.
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

import faust
from faust.app.base import BootStrategy
from faust.web import Request, Response, View
from mode import Service, ServiceT


class Loop(Service):
    """A loop in its own operating-system thread."""

    def __init__(self, journal: Path) -> None:
        super().__init__()
        self._journal = journal
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop")
        self.turns = 0

    async def on_start(self) -> None:
        self._thread.start()

    async def on_stop(self) -> None:
        self._enough.set()
        self._thread.join(5)
        self._note("gone" if not self._thread.is_alive() else "stuck")

    def _run(self) -> None:
        self._note("running")
        while not self._enough.wait(0.01):
            self.turns += 1
        self._note("stopped")

    def _note(self, word: str) -> None:
        with self._journal.open("a") as journal:
            journal.write(f"{word}\n")


LOOP = Loop(Path(os.environ["FAUST_HOST_FILE"]))


class WithoutKafka(BootStrategy):
    """Starts everything but Kafka, then the loop; a worker stops its services in the opposite order."""

    enable_kafka = False

    def server(self) -> Iterable[ServiceT]:
        return [*super().server(), LOOP]


class App(faust.App):
    BootStrategy = WithoutKafka


def main() -> None:
    """Run the worker until a signal."""
    app = App(
        "faust-host",
        broker="kafka://127.0.0.1:1",  # nobody listens there, and nobody is asked
        store="memory://",
        web_host="127.0.0.1",
        web_bind="127.0.0.1",
        web_port=int(os.environ["FAUST_HOST_PORT"]),
    )

    @app.page("/turns")
    async def turns(view: View, _: Request) -> Response:
        return view.json({"turns": LOOP.turns})

    app.main()


if __name__ == "__main__":
    main()
