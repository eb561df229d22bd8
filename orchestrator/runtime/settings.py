"""Environment to `Settings`; refuses to start with all problems listed."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.definitions.nodes import did_you_mean
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.units import duration_ms, size_bytes

PREFIX = "ORCHESTRATOR_"

# What Kubernetes puts into every pod of a namespace with a Service whose name starts with "orchestrator".
_SERVICE_LINK = re.compile(r".*_SERVICE_HOST|.*_SERVICE_PORT(_.*)?|.*_PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://[^/]*:[0-9]+")
# Hexadecimal host names of containers end in digits by chance, so only a number after a dash counts.
_ORDINAL = re.compile(r".*-([0-9]{1,4})")

_PACKAGE = Path(__file__).resolve().parents[1]

PUBLISHED = Path("topic")
"""What stands for the definitions that were published, in the place of a folder."""


class Secret:
    """A text that shows only when asked for with `reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment asks for; times are in milliseconds, sizes in bytes."""

    bootstrap_servers: str
    group: str
    ordinal: int
    instance: str
    state_dir: Path
    topics: Path
    schemas: Path
    schema_registry_url: str | None = field(repr=False)  # may carry a user and a password
    definitions: Path | None
    topic_prefix: str
    partitions: int | None
    replication: int | None
    barriers: str
    commit_interval_ms: int
    max_lag_ms: int | None
    max_skew_ms: int
    max_record_bytes: int
    transaction_timeout_ms: int
    session_timeout_ms: int
    static_membership: bool
    cache_bytes: int
    migrate_state: bool
    erasure_salt: Secret | None
    learn_every_ms: int | None
    policy_retention_ms: int
    web_host: str
    web_port: int
    web_token: Secret | None
    security_protocol: str
    sasl_mechanism: str
    sasl_username: str | None
    sasl_password: Secret | None
    sasl_token_url: str | None
    ssl_ca: Path | None
    ssl_cert: Path | None
    ssl_key: Path | None
    log_level: str
    log_format: str
    trace_headers: bool


# --- kinds of values; a parser returns the value or raises ValueError with the reason ---------------------------------


def _text(text: str) -> str:
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", text):
        raise ValueError(f"'{text}' may have letters, digits, '.', '_' and '-' only")
    return text


def _servers(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", server):
            raise ValueError(f"'{server}' is not an address, write it like broker-1:9092,broker-2:9092")
    return ",".join(servers)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            hint = "; Kubernetes set it for a Service of that name: use enableServiceLinks: false in the pod"
            hint = hint if _SERVICE_LINK_VALUE.fullmatch(text) else ""
            raise ValueError(f"'{text}' is not a whole number from {low} to {high}{hint}")
        return int(text)

    return parse


def _duration(text: str) -> int:
    milliseconds = duration_ms(text)
    if milliseconds == 0:
        raise ValueError(f"'{text}' is no time at all, write it like 200ms, 30s or 5m")
    return milliseconds


def _duration_or_unlimited(text: str) -> int | None:
    return None if text == "unlimited" else duration_ms(text)


def _duration_or_never(text: str) -> int | None:
    return None if text == "never" else _duration(text)


def _size(text: str) -> int:
    size = size_bytes(text)
    if size == 0:
        raise ValueError(f"'{text}' leaves no room, write it like 64KiB or 2MiB")
    return size


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"'{text}' is neither true nor false")
    return text == "true"


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"'{text}' is not one of {', '.join(words)}{did_you_mean(text, words)}")

    return parse


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"there is no file '{text}'")
    return path


def _directory(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise ValueError(f"there is no directory '{text}'")
    return path


def _definitions(text: str) -> Path:
    return PUBLISHED if text == str(PUBLISHED) else _directory(text)


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+.*", text):
        # The text may carry a password, so it is not repeated.
        raise ValueError("this is not a URL, write it like https://registry:8081")
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: `default` is written as an operator would write it, and empty when there is none."""

    name: str
    kind: str
    parse: Callable[[str], Any]
    default: str
    description: str
    secret: bool = False
    explained_default: str = ""
    """What the reference says instead of `default`, where that depends on the machine or on another setting."""

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return PREFIX + self.name


_BESIDE = "in the working directory, else beside the package"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "BOOTSTRAP_SERVERS",
        "addresses",
        _servers,
        "",
        "Kafka brokers, host:port separated by commas. Everything but the demo needs it.",
    ),
    Setting("GROUP", "name", _name, "journey", "Consumer group, and the first part of the transactional id."),
    Setting(
        "ORDINAL",
        "number",
        _whole(0, 9999),
        "",
        "This worker's number, different for each worker of the group: it makes the transactional id.",
        explained_default="the number after the last dash of the host name, else 0",
    ),
    Setting(
        "INSTANCE",
        "name",
        _name,
        "",
        "This worker's name in logs, in Kafka's client id and, with static membership, as group.instance.id.",
        explained_default="GROUP-ORDINAL",
    ),
    Setting("STATE_DIR", "directory", Path, "state", "Where RocksDB keeps customers; created when missing."),
    Setting("TOPICS", "file", _file, "", "The declared topics.", explained_default=f"topics.yaml {_BESIDE}"),
    Setting("SCHEMAS", "directory", _directory, "", "The Avro schemas.", explained_default=f"schemas/ {_BESIDE}"),
    Setting(
        "SCHEMA_REGISTRY_URL",
        "URL",
        _url,
        "",
        "Confluent Schema Registry, https://user:password@host where it asks for one. "
        "Without it schema ids come from the files in SCHEMAS.",
        secret=True,
    ),
    Setting(
        "SCHEMA_REGISTRY_URL_FILE",
        "file",
        _file,
        "",
        "A file with that URL, instead of SCHEMA_REGISTRY_URL; such as a mount.",
    ),
    Setting(
        "DEFINITIONS",
        "directory or topic",
        _definitions,
        "",
        "Moments, campaigns and policy as YAML: a folder, or `topic` for those that were published.",
    ),
    Setting("TOPIC_PREFIX", "name", _name, "", "Put in front of every topic name, such as test-."),
    Setting("PARTITIONS", "number", _whole(1, 100_000), "", "Overrides the partitions of co-partitioned topics."),
    Setting("REPLICATION", "number", _whole(1, 100), "", "Overrides the replication factor of every topic."),
    Setting(
        "BARRIERS",
        "live or replay",
        _choice("live", "replay"),
        "live",
        "Where time comes from: the wall clock, or the clock topic that a replay writes.",
    ),
    Setting(
        "COMMIT_INTERVAL",
        "duration",
        _duration,
        "500ms",
        "How often a transaction commits: shorter is sooner, longer is more events per second.",
    ),
    Setting(
        "MAX_LAG",
        "duration or unlimited",
        _duration_or_unlimited,
        "",
        "A timer is judged as of its due instant, but not by an instant longer ago than this.",
        explained_default="30s, and unlimited when BARRIERS is replay",
    ),
    Setting("MAX_SKEW", "duration", _duration, "5m", "An event further ahead of the time than this is a dead letter."),
    Setting("MAX_RECORD_BYTES", "size", _size, "1MiB", "A record larger than this is a dead letter."),
    Setting(
        "TRANSACTION_TIMEOUT",
        "duration",
        _duration,
        "60s",
        "How long the broker keeps a transaction of a worker that went silent.",
    ),
    Setting(
        "SESSION_TIMEOUT",
        "duration",
        _duration,
        "",
        "How long a silent worker keeps its partitions.",
        explained_default="10s, and 60s with STATIC_MEMBERSHIP",
    ),
    Setting(
        "STATIC_MEMBERSHIP",
        "true or false",
        _switch,
        "false",
        "Keep the partitions over a restart; for a fixed number of workers, not for autoscaling.",
    ),
    Setting(
        "CACHE_BYTES", "size", _size, "256MiB", "Memory for RocksDB's blocks and buffers, all partitions together."
    ),
    Setting(
        "MIGRATE_STATE",
        "true or false",
        _switch,
        "false",
        "After an upgrade, write all customers in the new version, not only those that are met.",
    ),
    Setting(
        "ERASURE_SALT",
        "secret",
        Secret,
        "",
        "Hides of whom an erasure is remembered, and the end of the campaign that ran. The same for all workers of the "
        "group; changing it forgets both.",
        secret=True,
    ),
    Setting("ERASURE_SALT_FILE", "file", _file, "", "A file with that salt, instead of ERASURE_SALT; such as a mount."),
    Setting(
        "LEARN_EVERY",
        "duration or never",
        _duration_or_never,
        "",
        "How often the control role publishes what campaigns are worth, where the policy asks for it.",
        explained_default="1h, and never when BARRIERS is replay",
    ),
    Setting(
        "POLICY_RETENTION",
        "duration",
        _duration,
        "1d",
        "How long a snapshot stays after another has followed it, for engines that lag and for back-tests.",
    ),
    Setting(
        "WEB_HOST",
        "address",
        _text,
        "127.0.0.1",
        "Where health, metrics and query pages listen; 0.0.0.0 in a container. The pages show customers' data.",
    ),
    Setting("WEB_PORT", "number", _whole(0, 65535), "8080", "Their port; 0 takes any free one."),
    Setting(
        "WEB_TOKEN",
        "secret",
        Secret,
        "",
        "Enables the pages that show customers' data, to whoever sends it as a bearer token.",
        secret=True,
    ),
    Setting("WEB_TOKEN_FILE", "file", _file, "", "A file with that token, instead of WEB_TOKEN; such as a mount."),
    Setting(
        "SECURITY_PROTOCOL",
        "plaintext, ssl, sasl_plaintext or sasl_ssl",
        _choice("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        "plaintext",
        "How brokers are spoken to.",
    ),
    Setting(
        "SASL_MECHANISM",
        "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        _choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
        "SCRAM-SHA-512",
        "How the password is proven; used with a sasl_ protocol. "
        "With OAUTHBEARER the user is a client id and the password its secret, at SASL_TOKEN_URL.",
    ),
    Setting("SASL_USERNAME", "text", _text, "", "The user; used with a sasl_ protocol."),
    Setting("SASL_PASSWORD", "secret", Secret, "", "The user's password.", secret=True),
    Setting(
        "SASL_PASSWORD_FILE", "file", _file, "", "A file with the password, instead of SASL_PASSWORD; such as a mount."
    ),
    Setting(
        "SASL_TOKEN_URL",
        "URL",
        _url,
        "",
        "Where OAUTHBEARER gets its tokens, for client credentials (OIDC).",
    ),
    Setting("SSL_CA", "file", _file, "", "Certificates to trust, PEM.", explained_default="the system's"),
    Setting("SSL_CERT", "file", _file, "", "Our certificate, PEM, where brokers ask for one."),
    Setting("SSL_KEY", "file", _file, "", "The key of SSL_CERT, PEM."),
    Setting("LOG_LEVEL", "level", _choice("debug", "info", "warning", "error"), "info", "How much is logged."),
    Setting(
        "LOG_FORMAT",
        "json or text",
        _choice("json", "text"),
        "",
        "One JSON object a line, or lines for people.",
        explained_default="text at a terminal, else json",
    ),
    Setting(
        "TRACE_HEADERS",
        "true or false",
        _switch,
        "false",
        "Triggers carry W3C `traceparent` and `tracestate`, from the event that led to them or derived.",
    ),
)

_FROM_FILES = ("SASL_PASSWORD", "WEB_TOKEN", "SCHEMA_REGISTRY_URL", "ERASURE_SALT")
"""Secrets that may be given as a file, named by NAME_FILE."""

_IN_MILLISECONDS = {
    "COMMIT_INTERVAL",
    "MAX_LAG",
    "MAX_SKEW",
    "TRANSACTION_TIMEOUT",
    "SESSION_TIMEOUT",
    "LEARN_EVERY",
    "POLICY_RETENTION",
}


def load(
    environment: Mapping[str, str] | None = None, *, hostname: str | None = None, required: Collection[str] = ()
) -> Settings:
    """Return the settings of an environment, by default this process's, or raise one OperatorError with every problem.

    `required` names the settings this command cannot do without, as in `{"BOOTSTRAP_SERVERS"}`.
    An empty variable counts as not set.
    """
    environment = os.environ if environment is None else environment
    given = {
        name[len(PREFIX) :]: text for name, text in environment.items() if name.startswith(PREFIX) and text.strip()
    }
    problems = [f"{PREFIX}{name}: unknown setting{hint}" for name, hint in _unknown(given)]
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = given.get(setting.name, setting.default).strip()
        values[setting.name] = None
        if not text:
            if setting.name in required:
                problems.append(f"{setting.variable} is not set: {setting.description}")
            continue
        try:
            values[setting.name] = setting.parse(text)
        except ValueError as error:
            problems.append(f"{setting.variable}: {error}")
    problems += _read_files(given, values)
    problems += _together(given, values)
    _fill_in(values, given, socket.gethostname() if hostname is None else hostname)
    if problems:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise OperatorError(f"the environment has {count}:", exit_code=USAGE, details=problems)
    for name in _FROM_FILES:
        del values[f"{name}_FILE"]
    fields = {name.lower() + ("_ms" if name in _IN_MILLISECONDS else ""): value for name, value in values.items()}
    return Settings(**fields)


# Read by the tests' brokers and the demo, not by a worker.
_OTHERS = {"REQUIRE_BROKERS", "KAFKA_JARS"}


def _unknown(given: Mapping[str, str]) -> list[tuple[str, str]]:
    known = {setting.name for setting in SETTINGS}
    return [
        (name, did_you_mean(name, known))
        for name in sorted(given)
        if name not in known and name not in _OTHERS and not _SERVICE_LINK.fullmatch(f"_{name}")
    ]


def _read_files(given: Mapping[str, str], values: dict[str, Any]) -> list[str]:
    """Take the secrets that are in files, and return what is wrong with them; none of it repeats a secret."""
    problems: list[str] = []
    parsers = {setting.name: setting.parse for setting in SETTINGS}
    for name in _FROM_FILES:
        file = values[f"{name}_FILE"]
        if file is None:
            continue
        if name in given:
            problems.append(f"{PREFIX}{name} and {PREFIX}{name}_FILE are both set: keep one")
            continue
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            problems.append(f"{PREFIX}{name}_FILE: the file cannot be read as text")
            continue
        if not text:
            problems.append(f"{PREFIX}{name}_FILE: the file is empty")
            continue
        try:
            values[name] = parsers[name](text)
        except ValueError as error:
            problems.append(f"{PREFIX}{name}_FILE: {error}")
    return problems


def _together(given: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong between settings that are right each for itself."""
    problems: list[str] = []
    protocol = values["SECURITY_PROTOCOL"] or ""
    sasl = [name for name in ("SASL_USERNAME", "SASL_PASSWORD", "SASL_PASSWORD_FILE") if name in given]
    if protocol.startswith("sasl_"):
        if "SASL_USERNAME" not in sasl:
            problems.append(f"{PREFIX}SASL_USERNAME is not set, and SECURITY_PROTOCOL {protocol} needs it")
        if sasl in ([], ["SASL_USERNAME"]):
            problems.append(
                f"{PREFIX}SASL_PASSWORD_FILE (or SASL_PASSWORD) is not set, and SECURITY_PROTOCOL {protocol} needs it"
            )
        if (values["SASL_MECHANISM"] == "OAUTHBEARER") != ("SASL_TOKEN_URL" in given):
            problems.append(f"{PREFIX}SASL_TOKEN_URL and SASL_MECHANISM OAUTHBEARER go together: set both or neither")
    elif protocol:
        problems += [
            f"{PREFIX}{name} is set, but SECURITY_PROTOCOL is {protocol}: use sasl_ssl or sasl_plaintext"
            for name in sasl
        ]
    if ("SSL_CERT" in given) != ("SSL_KEY" in given):
        missing, there = ("SSL_KEY", "SSL_CERT") if "SSL_CERT" in given else ("SSL_CERT", "SSL_KEY")
        problems.append(f"{PREFIX}{missing} is not set, and {there} needs it")
    if protocol in ("plaintext", "sasl_plaintext"):
        problems += [
            f"{PREFIX}{name} is set, but SECURITY_PROTOCOL {protocol} does not encrypt: use ssl or sasl_ssl"
            for name in ("SSL_CA", "SSL_CERT", "SSL_KEY")
            if name in given
        ]
    commit, transaction = values["COMMIT_INTERVAL"], values["TRANSACTION_TIMEOUT"]
    if commit and transaction and commit >= transaction:
        problems.append(f"{PREFIX}COMMIT_INTERVAL must be shorter than TRANSACTION_TIMEOUT, or every commit comes late")
    return problems


def _fill_in(values: dict[str, Any], given: Mapping[str, str], hostname: str) -> None:
    """Set what follows from the machine or from other settings."""
    if values["ORDINAL"] is None:
        match = _ORDINAL.fullmatch(hostname.split(".")[0])
        values["ORDINAL"] = int(match[1]) if match else 0
    values["INSTANCE"] = values["INSTANCE"] or f"{values['GROUP']}-{values['ORDINAL']}"
    values["BOOTSTRAP_SERVERS"] = values["BOOTSTRAP_SERVERS"] or ""
    values["TOPIC_PREFIX"] = values["TOPIC_PREFIX"] or ""
    values["LOG_FORMAT"] = values["LOG_FORMAT"] or ("text" if sys.stderr.isatty() else "json")
    values["TOPICS"] = values["TOPICS"] or shipped("topics.yaml")
    values["SCHEMAS"] = values["SCHEMAS"] or shipped("schemas")
    if "MAX_LAG" not in given and values["BARRIERS"] == "live":
        values["MAX_LAG"] = 30_000
    if "LEARN_EVERY" not in given and values["BARRIERS"] == "live":
        values["LEARN_EVERY"] = 3_600_000
    if values["SESSION_TIMEOUT"] is None:
        values["SESSION_TIMEOUT"] = 60_000 if values["STATIC_MEMBERSHIP"] else 10_000


def shipped(name: str) -> Path:
    """Return where a file or folder of the product is: in the working directory, else in the wheel, else in the clone.

    The name is as in the repository, such as `topics.yaml` or `deploy/definitions/retail`.
    """
    here = Path(name)
    if here.exists():
        return here
    in_wheel = _PACKAGE / "shipped"  # put there by setup.py
    return (in_wheel if in_wheel.is_dir() else _PACKAGE.parent) / name


def reference() -> str:
    """Return the table of all settings as Markdown."""
    rows = [
        f"| `{setting.variable}` | {setting.kind} | {_default(setting)} | {setting.description} |"
        for setting in SETTINGS
    ]
    return "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _default(setting: Setting) -> str:
    if setting.explained_default:
        return setting.explained_default
    return f"`{setting.default}`" if setting.default else "none"
