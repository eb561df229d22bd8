"""The environment becomes settings, or every problem is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.settings import SETTINGS, Secret, Settings, load, reference

SASL = {
    "ORCHESTRATOR_SECURITY_PROTOCOL": "SASL_SSL",
    "ORCHESTRATOR_SASL_USERNAME": "ana",
    "ORCHESTRATOR_SASL_PASSWORD": "s3cr3t-word",
}


def problems_of(environment: dict[str, str], required: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the problems this environment is refused with."""
    with pytest.raises(OperatorError) as caught:
        load(environment, hostname="host", required=required)
    assert caught.value.exit_code == 2
    return caught.value.details


def test_an_empty_environment_has_defaults_for_everything() -> None:
    """Nothing is needed but what a command names as required."""
    settings = load({}, hostname="laptop")

    assert (settings.group, settings.ordinal, settings.instance) == ("journey", 0, "journey-0")
    assert (settings.barriers, settings.commit_interval_ms, settings.max_lag_ms) == ("live", 500, 30_000)
    assert settings.max_record_bytes == 1 << 20
    assert (settings.definitions, settings.partitions, settings.schema_registry_url) == (None, None, None)
    assert settings.topics.name == "topics.yaml"
    assert settings.topics.is_file()
    assert settings.schemas.is_dir()


def test_an_empty_variable_is_not_set() -> None:
    """Charts render unset values as empty text."""
    assert load({}, hostname="h") == load({"ORCHESTRATOR_GROUP": "", "ORCHESTRATOR_SASL_PASSWORD": " "}, hostname="h")


@pytest.mark.parametrize(
    ("hostname", "ordinal"),
    [
        ("orchestrator-engine-7", 7),
        ("orchestrator-engine-12.journey.svc", 12),
        ("laptop", 0),
        ("a3f9c0127731", 0),
        ("engine-5d9c8b7f44-x2x9q", 0),
        ("host-20260101", 0),
    ],
)
def test_the_ordinal_comes_from_the_name_of_the_pod(hostname: str, ordinal: int) -> None:
    """A StatefulSet's number counts; the digits in the random name of a container do not."""
    assert ordinal == load({}, hostname=hostname).ordinal


def test_the_ordinal_can_be_given() -> None:
    """Outside Kubernetes somebody has to tell workers apart."""
    settings = load({"ORCHESTRATOR_ORDINAL": "3", "ORCHESTRATOR_GROUP": "g"}, hostname="engine-7")

    assert (settings.ordinal, settings.instance) == (3, "g-3")


def test_all_problems_are_listed_at_once() -> None:
    """Starting five times to find five problems is what we spare the operator."""
    problems = problems_of(
        {
            "ORCHESTRATOR_GRUOP": "x",
            "ORCHESTRATOR_COMMIT_INTERVAL": "5 seconds",
            "ORCHESTRATOR_MAX_RECORD_BYTES": "1MB",
            "ORCHESTRATOR_BARRIERS": "relive",
            "ORCHESTRATOR_STATIC_MEMBERSHIP": "yes",
            "ORCHESTRATOR_WEB_PORT": "70000",
            "ORCHESTRATOR_TOPICS": "no/such/topics.yaml",
        },
        required=("BOOTSTRAP_SERVERS",),
    )

    assert list(problems) == [
        "ORCHESTRATOR_GRUOP: unknown setting, did you mean 'GROUP'?",
        "ORCHESTRATOR_BOOTSTRAP_SERVERS is not set: Kafka brokers, host:port separated by commas. "
        "Everything but the demo needs it.",
        "ORCHESTRATOR_TOPICS: there is no file 'no/such/topics.yaml'",
        "ORCHESTRATOR_BARRIERS: 'relive' is not one of live, replay, did you mean 'live'?",
        "ORCHESTRATOR_COMMIT_INTERVAL: '5 seconds' is not a duration, write it like 200ms, 30s, 5m, 1h or 14d",
        "ORCHESTRATOR_MAX_RECORD_BYTES: '1MB' is not a size, write it like 64KiB, 2MiB or 1048576",
        "ORCHESTRATOR_STATIC_MEMBERSHIP: 'yes' is neither true nor false",
        "ORCHESTRATOR_WEB_PORT: '70000' is not a whole number from 0 to 65535",
    ]


@pytest.mark.parametrize("servers", ["broker", "broker:x", "http://broker:9092", "a:1,,b:2"])
def test_an_address_without_host_and_port_is_refused(servers: str) -> None:
    """The Kafka client would try a wrong address for ever."""
    (problem,) = problems_of({"ORCHESTRATOR_BOOTSTRAP_SERVERS": servers})

    assert "write it like broker-1:9092" in problem


def test_several_brokers_may_be_named_with_spaces() -> None:
    """What people paste works, also with IPv6."""
    settings = load({"ORCHESTRATOR_BOOTSTRAP_SERVERS": "a.b:9092, [::1]:9093"}, hostname="h")

    assert settings.bootstrap_servers == "a.b:9092,[::1]:9093"


def test_what_kubernetes_sets_for_a_service_is_not_a_mistake() -> None:
    """A Service called orchestrator puts variables of its own into every pod of the namespace."""
    load(
        {
            "ORCHESTRATOR_SERVICE_HOST": "10.0.0.1",
            "ORCHESTRATOR_SERVICE_PORT_HTTP": "80",
            "ORCHESTRATOR_PORT": "tcp://10.0.0.1:80",
            "ORCHESTRATOR_PORT_80_TCP_ADDR": "10.0.0.1",
        },
        hostname="h",
    )


def test_a_service_that_overwrites_a_setting_is_recognised() -> None:
    """A Service called orchestrator-web sets ORCHESTRATOR_WEB_PORT to an address; the message says how to stop it."""
    (problem,) = problems_of({"ORCHESTRATOR_WEB_PORT": "tcp://10.0.0.1:80"})

    assert "enableServiceLinks: false" in problem


def test_a_replay_has_no_limit_to_lag_unless_given() -> None:
    """In a replay a timer is judged as of its due instant, however long ago."""
    assert load({"ORCHESTRATOR_BARRIERS": "replay"}, hostname="h").max_lag_ms is None
    assert load({"ORCHESTRATOR_BARRIERS": "replay", "ORCHESTRATOR_MAX_LAG": "5s"}, hostname="h").max_lag_ms == 5_000
    assert load({"ORCHESTRATOR_MAX_LAG": "unlimited"}, hostname="h").max_lag_ms is None


def test_static_membership_waits_longer_for_a_restart() -> None:
    """A restart takes longer than fast fail-over would wait."""
    assert load({}, hostname="h").session_timeout_ms == 10_000
    assert load({"ORCHESTRATOR_STATIC_MEMBERSHIP": "true"}, hostname="h").session_timeout_ms == 60_000


def test_a_commit_interval_beyond_the_transaction_timeout_is_refused() -> None:
    """Every transaction would be aborted by the broker before it commits."""
    (problem,) = problems_of({"ORCHESTRATOR_COMMIT_INTERVAL": "2m"})

    assert "shorter than TRANSACTION_TIMEOUT" in problem


def test_secrets_never_show() -> None:
    """Neither the settings' text nor an error repeats a password or a URL that carries one."""
    given = {"ORCHESTRATOR_SCHEMA_REGISTRY_URL": "https://u:pw-1@registry", "ORCHESTRATOR_WEB_TOKEN": "pw-3"}
    settings = load(SASL | given, hostname="h")
    wrong = {"ORCHESTRATOR_SASL_PASSWORD": "pw-2", "ORCHESTRATOR_SCHEMA_REGISTRY_URL": "u:pw-1@registry"}

    shown = repr(settings) + str(settings.sasl_password) + "".join(problems_of(wrong))

    assert settings.sasl_password == Secret("s3cr3t-word")
    assert settings.sasl_password.reveal() == "s3cr3t-word"
    assert settings.web_token == Secret("pw-3")
    assert not any(secret in shown for secret in ("s3cr3t-word", "pw-1", "pw-2", "pw-3"))


def test_pages_with_customers_data_need_a_token_to_be_set() -> None:
    """Nobody gets a token by default, and an empty one counts as none."""
    assert load({}, hostname="h").web_token is None
    assert load({"ORCHESTRATOR_WEB_TOKEN": ""}, hostname="h").web_token is None


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    """A mounted secret ends in a line feed, which is not part of it."""
    files = {
        "SASL_PASSWORD": "from-file",
        "WEB_TOKEN": "a-token",
        "SCHEMA_REGISTRY_URL": "https://u:p@registry",
        "ERASURE_SALT": "a-salt",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    given = {f"ORCHESTRATOR_{name}_FILE": str(tmp_path / name) for name in files}

    settings = load(SASL | {"ORCHESTRATOR_SASL_PASSWORD": ""} | given, hostname="h")

    assert settings.sasl_password == Secret("from-file")
    assert settings.web_token == Secret("a-token")
    assert settings.erasure_salt == Secret("a-salt")
    assert settings.schema_registry_url == "https://u:p@registry"


@pytest.mark.parametrize(
    ("text", "said"),
    [("\n", "the file is empty"), ("pw-1@registry", "this is not a URL"), ("pw-1\udcff", "cannot be read as text")],
)
def test_a_file_without_a_usable_secret_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """An empty token would let everybody in; and what is in the file is not repeated."""
    file = tmp_path / "secret"
    file.write_bytes(text.encode(errors="surrogateescape"))

    (problem,) = problems_of({"ORCHESTRATOR_SCHEMA_REGISTRY_URL_FILE": str(file)})

    assert problem.startswith("ORCHESTRATOR_SCHEMA_REGISTRY_URL_FILE: ")
    assert said in problem
    assert "pw-1" not in problem


@pytest.mark.parametrize("name", ["SASL_PASSWORD", "WEB_TOKEN"])
def test_two_secrets_are_one_too_many(tmp_path: Path, name: str) -> None:
    """Which one counts would be a guess."""
    file = tmp_path / "secret"
    file.write_text("x")

    (problem,) = problems_of({**SASL, f"ORCHESTRATOR_{name}": "y", f"ORCHESTRATOR_{name}_FILE": str(file)})

    assert f"ORCHESTRATOR_{name} and ORCHESTRATOR_{name}_FILE are both set: keep one" in problem


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ORCHESTRATOR_SASL_USERNAME": "ana"}, ["use sasl_ssl"]),
        ({"ORCHESTRATOR_SECURITY_PROTOCOL": "sasl_ssl"}, ["SASL_USERNAME is not set", "SASL_PASSWORD_FILE (or"]),
        ({"ORCHESTRATOR_SECURITY_PROTOCOL": "ssl", "ORCHESTRATOR_SSL_CERT": __file__}, ["SSL_KEY is not set"]),
        ({"ORCHESTRATOR_SSL_CA": __file__}, ["does not encrypt"]),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(environment: dict[str, str], expected: list[str]) -> None:
    """A user without SASL or a certificate without TLS would silently not be used."""
    problems = problems_of(environment)

    assert len(expected) == len(problems)
    assert all(part in problem for part, problem in zip(expected, problems, strict=True))


def test_the_reference_lists_every_setting_with_its_description() -> None:
    """One table is the source of parsing and of the documentation."""
    lines = reference().splitlines()

    assert len(SETTINGS) + 2 == len(lines)
    for setting in SETTINGS:
        assert any(line.startswith(f"| `{setting.variable}` |") for line in lines)
        assert setting.description.endswith(".")


def test_every_field_of_the_settings_comes_from_a_variable() -> None:
    """There is no setting that cannot be set."""
    files = {"sasl_password_file", "web_token_file", "schema_registry_url_file", "erasure_salt_file"}
    variables = {setting.name.lower() for setting in SETTINGS} - files

    assert variables == {field.name.removesuffix("_ms") for field in dataclasses.fields(Settings)}
