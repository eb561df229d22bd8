"""The packs beside retail run through a real worker with nothing but YAML, schemas and a mapping."""

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.cli.reading import events_of
from orchestrator.runtime.auditor import audit_topics
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.embedded_broker import EmbeddedBroker
from orchestrator.runtime.record_reader import RecordReader
from orchestrator.runtime.schema_registry import FileRegistry
from tests.packs.lives import DAY, DAYS, FIRST, LIVES, records
from tests.runtime.messages import ROOT
from tests.runtime.streams import Stream
from tests.runtime.worker_process import EngineProcess

CUSTOMERS = 40


@pytest.mark.parametrize("pack", LIVES)
def test_a_pack_declares_its_inputs_and_no_code(pack: str) -> None:
    """In its folder there are definitions, tests and a mapping; its schemas lie with the others."""
    folder = ROOT / "deploy" / "definitions" / pack
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    own = set(events_of(folder).events) - set(events_of(ROOT / "deploy" / "definitions" / "retail").events)

    assert kinds == {".yaml"}
    assert own
    assert list((ROOT / "schemas" / pack).glob("*.avsc"))


@pytest.mark.broker
@pytest.mark.parametrize("pack", LIVES)
def test_a_pack_runs_through_a_worker(embedded: EmbeddedBroker, tmp_path: Path, pack: str) -> None:
    """Every campaign is decided for somebody, no record is refused, and the audit is clean."""
    folder = ROOT / "deploy" / "definitions" / pack
    stream = Stream(
        embedded.bootstrap, tmp_path, DEFINITIONS=str(folder), TOPICS=str(folder / "inputs" / "topics.yaml")
    )
    codec = Codec(FileRegistry(stream.settings.schemas))
    encode = {topic.name: codec.encoder(topic) for topic in stream.topics if topic.schema is not None}
    prefix, day = stream.topics.prefix, FIRST
    for one in records(pack, CUSTOMERS):
        while one.at >= day + DAY:
            day += DAY
            stream.advance_to(day)
        stream.put(one.topic, one.customer.encode(), encode[prefix + one.topic](one.record))
    last = FIRST + (DAYS + 2) * DAY
    stream.advance_to(last)

    with EngineProcess(stream.environment) as engine:
        engine.wait_until_ready()
        engine.wait_for(lambda: stream.reached(engine, last), 120)
        engine.terminate()
        assert engine.ended() == 0

    chosen = Counter(decision["campaign"] for decision in stream.decisions if decision["campaign"])
    print(f"{pack}: {dict(chosen)}")
    assert stream.dead_letters == []
    assert set(chosen) == set(load_folder(folder, events_of(folder)).campaigns)
    assert audit_topics(RecordReader.open(stream.settings), stream.topics).clean
