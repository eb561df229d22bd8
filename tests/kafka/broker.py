"""Apache Kafka itself for tests: its jars from Maven Central, one small KRaft node or several, faults on request.

``with KafkaBroker() as kafka`` gives one node; ``with cluster(3) as nodes`` gives three that replicate.
``python -m tests.kafka.broker`` fetches the jars, so that no test has to wait for the download.
"""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.runtime.embedded_broker import LOOPBACK, die_with_parent, free_ports, stop_watcher

JARS = "ORCHESTRATOR_KAFKA_JARS"
"""Names a directory with Kafka's jars, instead of letting mvn fetch them."""

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parents[1] / ".cache" / "kafka"
_POM = _HERE / "pom.xml"
_OLDEST_JAVA = 17
_FETCH_TIMEOUT = 600.0
_STARTED = b"Kafka Server started"
_CLUSTER_ID = "am91cm5leS1vcmNoZXN0cg"  # any 16 bytes in base64
_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:MaxMetaspaceSize=128m",
    "-XX:MaxDirectMemorySize=64m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts faster and spares the other core; tests do not measure the broker
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
)
_PROPERTIES = {
    "auto.create.topics.enable": "false",
    "broker.session.timeout.ms": "3000",  # a killed node is let in again only after this
    "broker.heartbeat.interval.ms": "500",
    "message.max.bytes": str(4 << 20),
    "replica.fetch.max.bytes": str(4 << 20),
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "log.initial.task.delay.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}


class KafkaUnavailableError(RuntimeError):
    """Apache Kafka cannot run here, for the reason given."""


class KafkaFailedError(RuntimeError):
    """A node of Apache Kafka did not do what it was told; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Member:
    """What the other nodes of a cluster must know of one node."""

    node_id: int
    port: int
    controller_port: int


@functools.cache
def kafka_unavailable() -> str | None:
    """Return why Apache Kafka cannot run here, in words for a skip, or None if it can; fetch the jars if need be."""
    try:
        _java()
        kafka_jars()
    except KafkaUnavailableError as error:
        return f"Apache Kafka is not here: {error}"
    except (OSError, subprocess.SubprocessError) as error:
        return f"Apache Kafka is not here: {error}"
    return None


def kafka_jars() -> Path:
    """Return the directory with Kafka's jars, fetched from Maven Central at the first call ever."""
    if named := os.environ.get(JARS):
        directory = Path(named).resolve()
        if not any(directory.glob("kafka_2.13-*.jar")):
            raise KafkaUnavailableError(f"{JARS} is '{named}', which holds no kafka_2.13 jar")
        return directory
    version = re.search(r"<kafka\.version>(.+?)</kafka\.version>", _POM.read_text())
    assert version, "the pom names the version of Kafka"
    directory = _CACHE / version[1]
    if not directory.is_dir():
        _fetch(directory)
    return directory


class KafkaBroker:
    """One KRaft node on loopback, broker and controller in one JVM; faults act on its process alone.

    The data lives in a temporary directory until ``close`` (which ``with`` calls), so a node can be stopped or killed
    and started again. ``properties`` override or extend the server's properties, listeners included;
    a listener added on a fixed port needs its port chosen by the caller (``free_ports``).
    """

    def __init__(
        self,
        *,
        properties: Mapping[str, str] | None = None,
        member: Member | None = None,
        members: Sequence[Member] = (),
        jvm: Sequence[str] = (),
        start_timeout: float = 60.0,
    ) -> None:
        self.member = member or Member(1, *free_ports(2))
        self._members = tuple(members) or (self.member,)
        self._properties = dict(properties or {})
        self._jvm = tuple(jvm)
        self._start_timeout = start_timeout
        self._directory = Path(tempfile.mkdtemp(prefix="orchestrator-kafka-"))
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for ``bootstrap.servers``, the same through every restart."""
        return f"{LOOPBACK}:{self.member.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the node, or None when it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        """The file with everything the node has logged, over all its runs."""
        return self._directory / "kafka.log"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the node and wait until it serves."""
        self.launch()
        self.wait_until_started()

    def launch(self) -> None:
        """Start the node without waiting, as the nodes of a cluster must be: none serves before most are there."""
        if self._process is not None:
            raise KafkaFailedError("the node is already running")
        if not (self._data / "meta.properties").exists():
            self._format()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command(), "kafka.Kafka", str(self._configuration)],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        self._watcher = die_with_parent(self._process.pid)

    def wait_until_started(self) -> None:
        """Wait until a launched node serves."""
        deadline = time.monotonic() + self._start_timeout
        while not self._has_logged(_STARTED):
            if self._process is None or self._process.poll() is not None:
                self._forget_process()
                raise KafkaFailedError(f"Kafka ended at its start; its log ends with\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise KafkaFailedError(f"Kafka is not up after {self._start_timeout:g} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def stop(self, timeout: float = 15.0) -> None:
        """Stop the node in good order (SIGTERM), or with SIGKILL after the timeout; its data stays."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget_process()

    def kill(self) -> None:
        """Kill the node as a power cut would (SIGKILL); its data stays."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._forget_process()

    def restart(self) -> None:
        """Stop the node in good order if it runs, and start it again on the same data and ports."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the node (SIGSTOP): its connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen node go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the node if it still runs, and delete its data: nobody needs either any more."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that the node has logged."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _configuration(self) -> Path:
        return self._directory / "server.properties"

    def _command(self) -> list[str]:
        return [str(_java()), *_JVM, *self._jvm, "-cp", f"{kafka_jars()}{os.sep}*"]

    def _format(self) -> None:
        """Write the configuration and the empty metadata log of a new node."""
        self._configuration.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        command = [*self._command(), "kafka.tools.StorageTool", "format", "--config", str(self._configuration)]
        done = subprocess.run(
            [*command, "--cluster-id", _CLUSTER_ID], cwd=self._directory, capture_output=True, timeout=60, check=False
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise KafkaFailedError(f"Kafka's storage could not be formatted:\n{said[-2000:]}")

    def _settings(self) -> dict[str, str]:
        me, replicas = self.member, min(3, len(self._members))
        in_sync = 2 if replicas == 3 else 1
        return {
            "process.roles": "broker,controller",
            "node.id": str(me.node_id),
            "controller.quorum.voters": ",".join(f"{m.node_id}@{LOOPBACK}:{m.controller_port}" for m in self._members),
            "listeners": f"PLAINTEXT://{LOOPBACK}:{me.port},CONTROLLER://{LOOPBACK}:{me.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{me.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._data),
            "default.replication.factor": str(replicas),
            "min.insync.replicas": str(in_sync),
            "offsets.topic.replication.factor": str(replicas),
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": str(in_sync),
            "share.coordinator.state.topic.replication.factor": str(replicas),
            "share.coordinator.state.topic.min.isr": str(in_sync),
            **_PROPERTIES,
            **self._properties,
        }

    def _has_logged(self, text: bytes) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return text in log.read()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise KafkaFailedError("the node is not running")
        self._process.send_signal(number)

    def _forget_process(self) -> None:
        self._process = None
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            stop_watcher(watcher)


@contextmanager
def cluster(size: int = 3, properties: Mapping[str, str] | None = None) -> Iterator[list[KafkaBroker]]:
    """Run several nodes as one cluster, each both broker and controller, with all data on up to three nodes."""
    ports = free_ports(2 * size)
    members = [Member(n + 1, ports[2 * n], ports[2 * n + 1]) for n in range(size)]
    with ExitStack() as stack:
        nodes = [KafkaBroker(member=member, members=members, properties=properties) for member in members]
        for node in nodes:
            stack.callback(node.close)
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_until_started()
        yield nodes


@functools.cache
def _java() -> Path:
    """Find a Java that is new enough, the one of JAVA_HOME first."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = found or shutil.which("java")
    if java is None:
        raise KafkaUnavailableError(f"java was not found; install a JDK {_OLDEST_JAVA}+")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None:
        raise KafkaUnavailableError(f"'java -version' does not say its version; install a JDK {_OLDEST_JAVA}+")
    if int(version[1]) < _OLDEST_JAVA:
        raise KafkaUnavailableError(f"java is version {version[1]}; install a JDK {_OLDEST_JAVA}+")
    return Path(java)


def _fetch(directory: Path) -> None:
    """Let mvn copy the jars of the pom; the directory appears only when it is complete."""
    mvn = shutil.which("mvn")
    if mvn is None:
        raise KafkaUnavailableError(f"mvn was not found; install Apache Maven, or name a directory of jars in {JARS}")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=directory.parent) as scratch:
        jars = Path(scratch) / "jars"
        goals = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        try:
            done = subprocess.run(
                [mvn, "-B", "-q", "-f", str(_POM), *goals],
                capture_output=True,
                text=True,
                timeout=_FETCH_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KafkaUnavailableError(f"mvn did not get the jars in {_FETCH_TIMEOUT:g} s") from None
        if done.returncode != 0 or not any(jars.glob("kafka_2.13-*.jar")):
            errors = [line for line in done.stdout.splitlines() if "ERROR" in line] or ["it gave no reason"]
            raise KafkaUnavailableError(f"mvn could not get the jars: {errors[0]}")
        try:
            jars.rename(directory)
        except OSError:
            if not directory.is_dir():  # else another run was faster, and its jars are as good
                raise


def main() -> int:
    """Fetch the jars, and say where they are or why they are not."""
    reason = kafka_unavailable()
    print(reason or f"Apache Kafka is in {kafka_jars()}")
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
