"""Which schema an id means, from files and from a registry server."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastavro.schema import to_parsing_canonical_form

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.schema_registry import ConfluentRegistry, FileRegistry, UnknownSchema, canonical, schema_id

SCHEMAS = Path(__file__).parents[2] / "schemas"

OLD = {"type": "record", "name": "Thing", "fields": [{"name": "id", "type": "string"}]}
NEW = {**OLD, "fields": [*OLD["fields"], {"name": "n", "type": "int", "default": 0}]}


@pytest.fixture
def files(tmp_path: Path) -> FileRegistry:
    """Return a registry with a current and a released version of one schema."""
    (tmp_path / "thing.avsc").write_text(json.dumps(NEW))
    (tmp_path / "released" / "1.0").mkdir(parents=True)
    (tmp_path / "released" / "1.0" / "thing.avsc").write_text(json.dumps(OLD))
    return FileRegistry(tmp_path)


def test_an_id_is_the_start_of_the_hash_of_the_canonical_form() -> None:
    """Any language computes the same id from the same file."""
    text = (SCHEMAS / "clickstream_event.avsc").read_text(encoding="utf-8")
    digest = sha256(to_parsing_canonical_form(json.loads(text)).encode()).digest()

    assert FileRegistry(SCHEMAS).id_of("clickstream_event", "any-topic") == int.from_bytes(digest[:4], "big")


def test_every_shipped_schema_has_an_id_of_its_own() -> None:
    """Two schemas under one id would be read as each other."""
    registry = FileRegistry(SCHEMAS)
    names = [file.stem for file in SCHEMAS.glob("*.avsc")]

    assert len({registry.id_of(name, "t") for name in names}) == len(names)


def test_documentation_does_not_change_an_id() -> None:
    """Improving a sentence is not a new version."""
    assert schema_id(OLD) == schema_id({**OLD, "doc": "What it is."})
    assert schema_id(OLD) != schema_id(NEW)


def test_released_versions_stay_readable(files: FileRegistry) -> None:
    """What was written last year is still in the topics."""
    assert canonical(files.schema(schema_id(OLD))) == canonical(OLD)
    assert canonical(files.schema(schema_id(NEW))) == canonical(NEW)
    assert canonical(files.named("thing")) == canonical(NEW)


def test_an_unknown_id_says_where_its_schema_belongs(files: FileRegistry) -> None:
    """The dead letter tells which file is missing."""
    with pytest.raises(UnknownSchema, match=r"schema id 7 .* released/"):
        files.schema(7)


def test_a_guid_needs_a_server(files: FileRegistry) -> None:
    """Files have no GUIDs."""
    with pytest.raises(UnknownSchema, match="SCHEMA_REGISTRY_URL"):
        files.schema_of_guid("0" * 32)


def test_a_file_that_is_no_schema_is_named(tmp_path: Path) -> None:
    """The person who broke it sees which file it was."""
    (tmp_path / "broken.avsc").write_text('{"type": "record"}')

    with pytest.raises(OperatorError, match=r"broken\.avsc is not an Avro schema"):
        FileRegistry(tmp_path)


def test_a_misspelt_schema_offers_the_nearest(files: FileRegistry) -> None:
    """A name in topics.yaml that no file has is answered with the likely one."""
    with pytest.raises(OperatorError, match="did you mean 'thing'"):
        files.named("thin")


def test_a_missing_client_says_what_to_install(files: FileRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional; asking for a registry without it is answered with the command."""
    for name in [name for name in sys.modules if name.startswith("confluent_kafka.schema_registry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "certifi", None)

    with pytest.raises(OperatorError, match=r"pip install 'journey-orchestrator\[registry\]'"):
        ConfluentRegistry("http://127.0.0.1:1", files)


# --- against a server ------------------------------------------------------------------------------------------------


class Registry(ThreadingHTTPServer):
    """The four requests we make of a registry, answered over a socket."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.schemas: dict[int, str] = {}
        self.subjects: dict[tuple[str, str], int] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, schema: Any) -> int:
        self.schemas[len(self.schemas) + 1] = json.dumps(schema)
        return len(self.schemas)


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["schemas", "guids"]:
            self._answer(200, {"schema": self.server.schemas[1], "schemaType": "AVRO"})
        elif parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.server.schemas:
            self._answer(200, {"schema": self.server.schemas[int(parts[2])], "schemaType": "AVRO"})
        else:
            self._answer(404, {"error_code": 40403, "message": "Schema not found"})

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
        parts = self.path.split("?")[0].strip("/").split("/")
        key = (parts[1], text)
        if parts[-1] == "versions":
            number = self.server.subjects.setdefault(key, self.server.add(json.loads(text)))
            self._answer(200, {"id": number})
        elif key in self.server.subjects:
            found = {"subject": parts[1], "id": self.server.subjects[key], "version": 1, "schema": text}
            self._answer(200, found)
        else:
            self._answer(404, {"error_code": 40403, "message": "Schema not found"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Registry]:
    """Serve a registry on loopback."""
    with Registry() as registry:
        thread = threading.Thread(target=registry.serve_forever, args=(0.05,))
        thread.start()
        yield registry
        registry.shutdown()
        thread.join()


def test_our_schema_is_registered_under_the_topic_once(server: Registry, files: FileRegistry) -> None:
    """The subject is the topic's name and `-value`; a second process finds it there."""
    first = ConfluentRegistry(server.url, files).id_of("thing", "things")
    second = ConfluentRegistry(server.url, files).id_of("thing", "things")

    assert first == second
    assert [subject for subject, _ in server.subjects] == ["things-value"]


def test_a_schema_that_must_not_be_registered_is_asked_for(server: Registry, files: FileRegistry) -> None:
    """Where registering is a release step, a worker refuses instead."""
    with pytest.raises(OperatorError, match="not registered under things-value"):
        ConfluentRegistry(server.url, files, register=False).id_of("thing", "things")

    assert not server.subjects


def test_a_writers_schema_comes_from_the_server(server: Registry, files: FileRegistry) -> None:
    """By id and by GUID."""
    number = server.add(OLD)
    registry = ConfluentRegistry(server.url, files)

    assert canonical(registry.schema(number)) == canonical(OLD)
    assert canonical(registry.schema_of_guid("89791762-2336-4186-9674-299b90a802e2")) == canonical(OLD)


def test_an_id_the_server_does_not_know_is_asked_for_once(server: Registry, files: FileRegistry) -> None:
    """A stream of hostile ids must not become a stream of requests."""
    registry = ConfluentRegistry(server.url, files)

    for _ in range(3):
        with pytest.raises(UnknownSchema, match="schema id 99 is not in the registry"):
            registry.schema(99)

    assert len(server.asked) == 1


def test_a_server_that_is_not_there_stops_us_in_one_line(server: Registry, files: FileRegistry) -> None:
    """Records must wait for the registry, not become dead letters; the password is not in the line."""
    server.server_close()
    registry = ConfluentRegistry(server.url.replace("http://", "http://user:geheim@"), files, timeout=1.0)

    with pytest.raises(OperatorError, match="check ORCHESTRATOR_SCHEMA_REGISTRY_URL") as caught:
        registry.schema(1)

    assert "geheim" not in str(caught.value)
