"""Real workers as processes over topics of their own: started, killed, waited for, and what they wrote compared."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from orchestrator.audit import AuditReport
from orchestrator.demo.replayer import Arrival, Replayer
from orchestrator.runtime import settings as environment
from orchestrator.runtime.auditor import audit_topics
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.compose import codec_of, topics_of
from orchestrator.runtime.connection import client_config
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topics
from orchestrator.runtime.topic_admin import apply
from orchestrator.runtime.topic_reader import read_topic, topic_spans

ROOT = Path(__file__).resolve().parents[2]
RETAIL = ROOT / "deploy" / "definitions" / "retail"
PATIENCE = 60.0

Outputs = dict[str, list[tuple[Any, ...]]]
"""By role, what was written: (partition, key, value, headers), sorted; of the slot only the last word on each key."""

_COMPARED = ("triggers", "decisions", "outcomes", "active", "dead_letters")
_OURS = (*_COMPARED, "changelog")


class Run:
    """A group with its own outputs, changelog and state, over inputs that it may share with other runs."""

    def __init__(
        self,
        name: str,
        bootstrap: str,
        folder: Path,
        inputs: str,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Declare the topics; `inputs` is the prefix of every topic, and our outputs are called after the run too.

        `more` are settings by their names without ORCHESTRATOR_.
        """
        if (folder / name).exists():  # a test that is run a second time begins anew
            name = f"{name}-{uuid.uuid4().hex[:6]}"
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        declared = self.folder / "topics.yaml"
        declared.write_text(_renamed((ROOT / "topics.yaml").read_text(), name))
        self._environment = {
            "BOOTSTRAP_SERVERS": bootstrap,
            "GROUP": f"{inputs}{name}",
            "STATE_DIR": str(self.folder / "state"),
            "TOPICS": str(declared),
            "SCHEMAS": str(ROOT / "schemas"),
            "DEFINITIONS": str(RETAIL),
            "TOPIC_PREFIX": inputs,
            "PARTITIONS": "4",
            "REPLICATION": "1",
            "BARRIERS": "replay",
            "TRANSACTION_TIMEOUT": "10s",
            "COMMIT_INTERVAL": "20ms",
            "STATIC_MEMBERSHIP": "true",
            "WEB_PORT": "0",
            "LOG_LEVEL": "info",
            **more,
        }
        self.settings: Settings = environment.load(self.environment(0))
        self.topics: Topics = topics_of(self.settings)
        self.codec: Codec = codec_of(self.settings)
        self.client = {**client_config(self.settings), "log_level": 0}
        self._workers: list[Worker] = []
        self._admin = AdminClient(self.client)
        apply(self._admin, self.topics)
        wait_for(self._has_leaders, "the leaders of new topics")

    def _has_leaders(self) -> bool:
        try:
            return all(topic_spans(self.client, topic.name) for topic in self.topics)
        except OperatorError:
            return False  # created, but its broker does not know yet

    def environment(self, ordinal: int, **more: str) -> dict[str, str]:
        """Return the settings of one worker as environment variables."""
        chosen = {**self._environment, "ORDINAL": str(ordinal), **more}
        # Workers share no directory: as in production, where each has a volume of its own.
        chosen["STATE_DIR"] = f"{chosen['STATE_DIR']}-{chosen['ORDINAL']}"
        return {f"ORCHESTRATOR_{name}": text for name, text in chosen.items()}

    def state(self, ordinal: int = 0) -> Path:
        """Return the directory with a worker's state."""
        return Path(self.environment(ordinal)["ORCHESTRATOR_STATE_DIR"])

    def start(self, ordinal: int = 0, *, crash: Mapping[str, str] | None = None, **more: str) -> Worker:
        """Start a worker; `crash` says where it is to kill itself, see crashing_worker."""
        variables = {**self.environment(ordinal, **more), **(crash or {})}
        worker = Worker(variables, self.folder / f"worker-{ordinal}.log")
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Leave no process behind, whatever has failed."""
        for worker in self._workers:
            worker.kill()

    def replay(
        self, arrivals: Iterable[Arrival], until: int, *, barrier_every: int, learn_every: int | None = None
    ) -> int:
        """Fill the inputs and the clock, waiting for what is to be learned; return how many records there are."""
        replayer = Replayer(
            self.client,
            self.topics,
            self.codec,
            barrier_every=barrier_every,
            learn_every=learn_every,
            group=self.settings.group,
        )
        try:
            return replayer.replay(arrivals, until)
        finally:
            replayer.close()

    def decided(self) -> int:
        """Return how many records of the clock topic the group has committed, over all partitions."""
        clock = self.topics.clock.name
        offsets = self._offsets([TopicPartition(clock, number) for number in range(self.topics.partitions)])
        return sum(max(0, where.offset) for where in offsets)

    def committed(self) -> dict[tuple[str, int], int]:
        """Return every offset the group has committed, by topic without prefix and partition; -1 where none."""
        read = (*self.topics.inputs, self.topics.profiles)
        wanted = [TopicPartition(topic.name, number) for topic in read for number in range(topic.partitions)]
        return {
            (self.topics.plain_name(where.topic), where.partition): max(-1, where.offset)
            for where in self._offsets(wanted)
        }

    def _offsets(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        asked = [ConsumerGroupTopicPartitions(self.settings.group, wanted)]
        (answer,) = self._answer(lambda: self._admin.list_consumer_group_offsets(asked, require_stable=False))
        return list(answer.topic_partitions)

    def _answer(self, question: Callable[[], dict[Any, Future[Any]]]) -> list[Any]:
        """Ask again while the group's coordinator is not ready, as in a broker that has just started."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return [answer.result(PATIENCE) for answer in question().values()]
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def members(self) -> dict[str, set[int]]:
        """Return the partitions of the inputs that each worker has now, by its name."""
        (answer,) = self._answer(lambda: self._admin.describe_consumer_groups([self.settings.group]))
        first = self.topics.inputs[0].name  # a worker has the same partitions of all
        return {
            member.client_id: {where.partition for where in member.assignment.topic_partitions if where.topic == first}
            for member in answer.members
        }

    def barriers(self) -> int:
        """Return the sum over all partitions of the offset that follows the last barrier.

        The ends would not do: where a live worker wrote the barriers, markers of transactions come after the last.
        """
        ends = {one.partition: one.offset + 1 for one in read_topic(self.client, self.topics.clock.name)}
        return sum(ends.values())

    def finish(self, *, crash: Mapping[str, str] | None = None) -> None:
        """Let one worker decide everything that is left, if there is anything, and stop it."""
        if self.finished:
            return
        worker = self.start(crash=crash)
        self.wait_until_finished(worker)
        assert worker.stop() == 0

    @property
    def finished(self) -> bool:
        """Whether every barrier of the clock topic was decided."""
        return self.decided() >= self.barriers()

    def wait_until_finished(self, *workers: Worker, patience: float = PATIENCE) -> None:
        """Wait until every barrier of the clock topic was decided; a worker that ends before that is an error."""
        total = self.barriers()

        def finished() -> bool:
            for worker in workers:
                worker.must_run()
            return self.decided() >= total

        wait_for(finished, f"the end of {self.name}", patience)

    def outputs(self) -> Outputs:
        """Return everything committed to our topics, in an order of its own."""
        found: Outputs = {}
        for role in _COMPARED:
            (topic,) = self.topics.by_role(role)
            records = [(one.partition, one.key, one.value, one.headers) for one in read_topic(self.client, topic.name)]
            if role == "active":
                records = list({one[1]: one for one in records}.values())
            found[role] = sorted(records, key=repr)
        return found

    def records(self, role: str) -> list[dict[str, Any]]:
        """Return the committed records of one of our topics, decoded."""
        (topic,) = self.topics.by_role(role)
        return [record for record, _ in RecordReader(self.client, self.codec).read(topic)]

    def audit(self) -> AuditReport:
        """Return what the outputs prove."""
        return audit_topics(RecordReader(self.client, self.codec), self.topics)


class Worker:
    """One worker's process."""

    def __init__(self, variables: Mapping[str, str], log: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kafka.crashing_worker"],
                cwd=ROOT,
                env={**kept, **variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has printed."""
        with self._log.open("rb") as printed:
            printed.seek(self._log_start)
            return printed.read().decode(errors="replace")

    def must_run(self) -> None:
        """Fail with what it printed, should it have ended."""
        code = self._process.poll()
        assert code is None, f"the worker ended with {code}:\n{self.log[-3000:]}"

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the process where it is, a member of its group all the while, and let it go on afterwards."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def stop(self, patience: float = 30.0) -> int:
        """Ask it to stop, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not stop:\n{self.log[-3000:]}") from None

    def wait(self, patience: float = PATIENCE) -> int:
        """Return its exit code once it has ended by itself."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not end:\n{self.log[-3000:]}") from None


def wait_for(what: Callable[[], bool], name: str, patience: float = PATIENCE) -> float:
    """Wait until something is so, and return how many seconds it took."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < patience, f"waited {patience:.0f} s in vain for {name}"
        time.sleep(0.05)
    return time.monotonic() - started


def differences(found: Outputs, expected: Outputs) -> str:
    """Return in a few words what two outputs do not share, nothing when they are byte-identical."""
    told = []
    for role, records in expected.items():
        missing, surplus = list(records), []
        for record in found[role]:
            if record in missing:
                missing.remove(record)
            else:
                surplus.append(record)
        if missing or surplus:
            told.append(f"{role}: {len(missing)} missing, {len(surplus)} too many; {missing[:1]} {surplus[:1]}")
    return "; ".join(told)


def _renamed(text: str, run: str) -> str:
    """Return a topics.yaml whose outputs and changelog are called after a run."""

    def rename(match: re.Match[str]) -> str:
        return f"- topic: {run}.{match[1]}\n    role: {match[2]}" if match[2] in _OURS else match[0]

    return re.sub(r"- topic: (\S+)\n    role: (\S+)", rename, text)
