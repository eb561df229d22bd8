"""The chart renders what Kubernetes accepts, says no to what would go wrong, and sets only what workers read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

import orchestrator
from orchestrator.cli import main
from orchestrator.runtime import settings as environment
from orchestrator.runtime.topics import load as load_topics
from tests.deploy import generated, helm
from tests.deploy.helm import Document
from tests.test_docs import anchors, blocks

OLDEST, NEWEST = "1.27", "1.37"
NOT_KUBERNETES = ("monitoring.coreos.com/", "keda.sh/")
SETS = list(generated.SETS)
SECRETS = {"SASL_PASSWORD", "WEB_TOKEN", "ERASURE_SALT"}

pytestmark = pytest.mark.timeout(helm.BUILD_SECONDS + 60)  # the first test of a machine may build helm


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Document]]:
    """Return the manifests of every set of values."""
    return {name: helm.documents(helm.template(path)) for name, path in generated.SETS.items()}


def of_kind(documents: list[Document], kind: str, component: str = "") -> Document:
    """Return the one manifest of a kind, of a role where there are two."""
    [found] = [
        document
        for document in documents
        if document["kind"] == kind
        and component in ("", document["metadata"].get("labels", {}).get("app.kubernetes.io/component"))
    ]
    return found


def pods(documents: list[Document]) -> Iterator[Document]:
    """Yield the pod specifications with their metadata."""
    for document in documents:
        if document["kind"] in ("StatefulSet", "Deployment"):
            yield document["spec"]["template"]


def test_there_are_four_sets_of_values() -> None:
    """Default, static with SASL over TLS, dynamic with KEDA, and a small one for development."""
    assert SETS == ["default", "dynamic-keda", "minimal-dev", "static-sasl-ssl"]


@pytest.mark.parametrize("name", SETS)
def test_rendering_is_as_read_and_approved(name: str) -> None:
    """A change of the chart shows as a change of what is deployed."""
    assert helm.template(generated.SETS[name]) == generated.golden(name), "read it, then: python -m tests.deploy"


@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(name: str) -> None:
    """`helm lint --strict` is clean but for the advice to draw an icon."""
    arguments = ("--strict", "--kube-version", helm.KUBERNETES, "--values", str(generated.SETS[name]))
    said = helm.run("lint", str(helm.CHART), *arguments)

    assert "0 chart(s) failed" in said
    assert re.findall(r"\[(?!INFO\] Chart.yaml: icon)\w+\].*", said) == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", SETS)
def test_kubernetes_accepts_what_is_rendered(rendered: dict[str, list[Document]], name: str, version: str) -> None:
    """Every manifest is of Kubernetes' schema, with no field that it does not know."""
    for document in rendered[name]:
        if not document["apiVersion"].startswith(NOT_KUBERNETES):
            kubernetes_validate.validate(document, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_noticed(rendered: dict[str, list[Document]]) -> None:
    """The validation above can fail."""
    [pod, *_] = pods(rendered["default"])
    broken = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod["spec"] | {"enableLinks": 1}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


@pytest.mark.parametrize("name", SETS)
def test_only_settings_are_set(rendered: dict[str, list[Document]], name: str) -> None:
    """A variable that nothing reads would be refused at the start."""
    known = {setting.variable for setting in environment.SETTINGS}
    named = {
        entry["name"] for pod in pods(rendered[name]) for each in pod["spec"]["containers"] for entry in each["env"]
    }

    assert named - known == set()


@pytest.mark.parametrize("name", SETS)
def test_workers_accept_the_environment(
    rendered: dict[str, list[Document]], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each role starts with what the chart gives it: values, secrets and folders fit together."""
    monkeypatch.chdir(helm.ROOT)
    for file in ("password", "ca.crt", "tls.crt", "tls.key", "web-token", "erasure-salt"):
        (tmp_path / file).write_text("secret")
    (tmp_path / "registry-url").write_text("https://u:p@registry:8081")
    for pod in pods(rendered[name]):
        [container] = pod["spec"]["containers"]
        given = dict(resolved(container, tmp_path))

        settings = environment.load(given, hostname="journey-orchestrator-engine-12", required=("BOOTSTRAP_SERVERS",))

        assert settings.ordinal == 12
        assert settings.web_host == "0.0.0.0"
        assert settings.static_membership is (name == "static-sasl-ssl" and container["name"] == "journey-engine")


def resolved(container: Document, secrets: Path) -> Iterator[tuple[str, str]]:
    """Yield the variables of a container as its process sees them, with its mounts in other places."""
    for entry in container["env"]:
        if "valueFrom" in entry:
            assert list(entry["valueFrom"]) == ["fieldRef"]
            yield entry["name"], "pod-12"
            continue
        value = entry["value"].replace("/run/secrets/journey", str(secrets))
        if entry["name"] == "ORCHESTRATOR_DEFINITIONS" and value != "topic":
            value = str(helm.ROOT / "deploy" / "definitions" / "retail")
        yield entry["name"], value


@pytest.mark.parametrize("name", SETS)
def test_secrets_are_files_and_never_arguments(rendered: dict[str, list[Document]], name: str) -> None:
    """No secret is in an argument or a variable, and what is mounted is read by its owner only."""
    for pod in pods(rendered[name]):
        [container] = pod["spec"]["containers"]
        assert container["args"][:2] == ["worker", "--role"]
        assert len(container["args"]) == 3
        named = {entry["name"].removeprefix("ORCHESTRATOR_") for entry in container["env"]}
        assert named & SECRETS == set()
        mounted = [volume["projected"] for volume in pod["spec"]["volumes"] if "projected" in volume]
        assert all(volume["defaultMode"] == 0o440 for volume in mounted)
        assert ("static" in name or "keda" in name) is bool(mounted)


@pytest.mark.parametrize("name", SETS)
def test_pods_are_locked_down(rendered: dict[str, list[Document]], name: str) -> None:
    """Not root, nothing to write but their volumes, no links to services and no token of Kubernetes."""
    for pod in pods(rendered[name]):
        spec = pod["spec"]
        [container] = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert spec["terminationGracePeriodSeconds"] >= 90
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"/state", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
        assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.parametrize("name", SETS)
def test_only_the_heartbeat_can_kill_a_worker(rendered: dict[str, list[Document]], name: str) -> None:
    """Lag and restoring make a worker not ready; they never restart it once it has started."""
    for pod in pods(rendered[name]):
        [container] = pod["spec"]["containers"]
        probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
        assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
            "startup": "/readyz",
            "readiness": "/readyz",
            "liveness": "/healthz",
        }
        assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] == 3_600


def test_engines_are_a_set_of_volumes_that_start_together(rendered: dict[str, list[Document]]) -> None:
    """Each has its volume, all restore at once, and one at a time may be taken away."""
    documents = rendered["default"]
    spec = of_kind(documents, "StatefulSet")["spec"]
    service = of_kind(documents, "Service", "engine")

    assert (spec["replicas"], spec["podManagementPolicy"]) == (3, "Parallel")
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["journey-state"]
    assert spec["serviceName"] == service["metadata"]["name"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert of_kind(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert [each["topologyKey"] for each in spec["template"]["spec"]["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]


@pytest.mark.parametrize("name", SETS)
def test_a_pod_keeps_its_ordinal_and_its_instance(rendered: dict[str, list[Document]], name: str) -> None:
    """The ordinal is the end of the host name, so that must fit; the instance is the pod's name."""
    [container] = of_kind(rendered[name], "StatefulSet")["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry for entry in container["env"]}

    assert given["ORCHESTRATOR_INSTANCE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert "ORCHESTRATOR_ORDINAL" not in given


def test_a_long_name_leaves_room_for_the_ordinal() -> None:
    """A host name is cut off after 63 characters."""
    documents = helm.documents(helm.template(generated.SETS["minimal-dev"], name="r" * 53))
    name = of_kind(documents, "StatefulSet")["metadata"]["name"]

    assert len(f"{name}-9999") <= 63


@pytest.mark.parametrize(
    ("release", "name"), [("journey", "journey-engine"), ("crm", "crm-journey-orchestrator-engine")]
)
def test_names_begin_with_the_release(release: str, name: str) -> None:
    """A release that is called after the product has short names, as the runbooks write them."""
    documents = helm.documents(helm.template(generated.SETS["minimal-dev"], name=release))

    assert of_kind(documents, "StatefulSet")["metadata"]["name"] == name


def test_a_changed_definition_restarts_the_engines() -> None:
    """The pods' annotation follows the files, and nothing else of the chart does."""

    def checksum(*sets: str) -> str:
        documents = helm.documents(helm.template(generated.SETS["static-sasl-ssl"], sets=sets))
        template = of_kind(documents, "StatefulSet")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/definitions"])

    assert checksum() == checksum('settings.LOG_LEVEL="debug"')
    assert checksum() != checksum('definitions.files={"moments.yaml":"moments: {}"}')


def test_definitions_arrive_as_they_were_written() -> None:
    """The ConfigMap holds every file to the last character."""
    text = "  indented: first\nname: 'Café'   \n\nlast: \"no end of line\""
    sets = (f"definitions.files={json.dumps({'moments.yaml': text})}",)

    documents = helm.documents(helm.template(generated.SETS["static-sasl-ssl"], sets=sets))

    assert of_kind(documents, "ConfigMap")["data"]["moments.yaml"] == text


def test_files_of_the_chart_become_definitions(tmp_path: Path) -> None:
    """Who puts YAML files into files/definitions needs no values for them; the README there is none."""
    shutil.copytree(helm.CHART, tmp_path / "chart")
    shipped = helm.ROOT / "deploy" / "definitions" / "retail"
    for path in shipped.glob("*.yaml"):
        shutil.copy(path, tmp_path / "chart" / "files" / "definitions")

    text = helm.run(
        "template",
        "journey",
        str(tmp_path / "chart"),
        *("--kube-version", helm.KUBERNETES, "--set", "kafka.bootstrapServers=kafka:9092"),
    )

    data = of_kind(helm.documents(text), "ConfigMap")["data"]
    assert data == {path.name: path.read_text(encoding="utf-8") for path in shipped.glob("*.yaml")}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("default", "WARNING: records about customers go over the network in the clear"),
        ("static-sasl-ssl", "Membership is static: a pod that restarts within its session"),
        ("dynamic-keda", "Membership is dynamic"),
        ("minimal-dev", "WARNING: one engine has nobody to take over from it."),
    ],
)
def test_notes_say_what_to_do_next(tmp_path: Path, name: str, said: str) -> None:
    """After an installation one reads how to see that it works, and what was left open."""
    shutil.copytree(helm.CHART, tmp_path / "chart")
    notes = tmp_path / "chart" / "templates" / "NOTES.txt"
    # Without a cluster helm shows no notes, so they are rendered as a manifest.
    text = (
        '{{ define "notes" }}' + notes.read_text(encoding="utf-8") + '{{ end }}notes: {{ include "notes" . | toJson }}'
    )
    (tmp_path / "chart" / "templates" / "notes.yaml").write_text(text)
    arguments = ("--kube-version", helm.KUBERNETES, "--values", str(generated.SETS[name]))

    rendered = helm.run("template", "r", str(tmp_path / "chart"), "--show-only", "templates/notes.yaml", *arguments)

    shown = str(yaml.safe_load(rendered)["notes"])
    assert said in shown
    assert "statefulset/r-journey-orchestrator-engine" in shown
    assert "<no value>" not in shown


def test_keda_scales_by_every_input_and_never_to_zero(rendered: dict[str, list[Document]]) -> None:
    """Each input counts, under its prefix; the StatefulSet leaves the number to KEDA."""
    documents = rendered["dynamic-keda"]
    spec = of_kind(documents, "ScaledObject")["spec"]
    topics = load_topics(helm.ROOT / "topics.yaml")

    assert "replicas" not in of_kind(documents, "StatefulSet")["spec"]
    assert spec["scaleTargetRef"]["name"] == of_kind(documents, "StatefulSet")["metadata"]["name"]
    assert spec["minReplicaCount"] >= 1
    assert [each["metadata"]["topic"] for each in spec["triggers"]] == [topic.name for topic in topics.inputs]
    assert all(isinstance(value, str) for each in spec["triggers"] for value in each["metadata"].values())


def test_keda_logs_in_as_the_engine_does() -> None:
    """With SASL it is told mechanism and user, and takes the password from the same Secret."""
    sets = (
        'kafka.securityProtocol="sasl_ssl"',
        'kafka.topicPrefix="test-"',
        'engine.kafkaUser={"username":"e","passwordSecret":{"name":"engine-secret"},"certificateSecret":{"name":""}}',
        "control.enabled=false",
    )

    documents = helm.documents(helm.template(generated.SETS["dynamic-keda"], sets=sets))

    login = of_kind(documents, "TriggerAuthentication")["spec"]
    assert login["env"] == [
        {"parameter": "username", "name": "ORCHESTRATOR_SASL_USERNAME", "containerName": "journey-engine"}
    ]
    assert login["secretTargetRef"][0] == {"parameter": "password", "name": "engine-secret", "key": "password"}
    trigger = of_kind(documents, "ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert (trigger["sasl"], trigger["tls"], trigger["topic"]) == ("scram_sha512", "enable", "test-clickstream")


def test_published_definitions_need_no_folder(rendered: dict[str, list[Document]]) -> None:
    """Both roles follow the topic, and nothing is mounted for it."""
    for pod in pods(rendered["dynamic-keda"]):
        [container] = pod["spec"]["containers"]
        assert {"name": "ORCHESTRATOR_DEFINITIONS", "value": "topic"} in container["env"]
        assert "definitions" not in {mount["name"] for mount in container["volumeMounts"]}
        assert "definitions" not in {volume["name"] for volume in pod["spec"]["volumes"]}
    assert [document for document in rendered["dynamic-keda"] if document["kind"] == "ConfigMap"] == []


def test_inputs_of_the_image_are_named() -> None:
    """The packs of other trades run as they are shipped."""
    name = "/app/deploy/definitions/telco/inputs/topics.yaml"
    documents = helm.documents(helm.template(generated.SETS["default"], sets=(f'inputs.imagePath="{name}"',)))

    for pod in pods(documents):
        [container] = pod["spec"]["containers"]
        assert {"name": "ORCHESTRATOR_TOPICS", "value": name} in container["env"]
    assert (helm.ROOT / name.removeprefix("/app/")).is_file()


def test_inputs_of_a_config_map_are_read_where_they_are_mounted(tmp_path: Path) -> None:
    """It holds the declaration and its schemas, which find the product's beside them as in the image."""
    documents = helm.documents(helm.template(generated.SETS["default"], sets=('inputs.configMap="mine"',)))
    mounted = "/app/schemas/inputs"
    for pod in pods(documents):
        [container] = pod["spec"]["containers"]
        assert {"name": "inputs", "mountPath": mounted, "readOnly": True} in container["volumeMounts"]
        assert {"name": "inputs", "configMap": {"name": "mine"}} in pod["spec"]["volumes"]
        assert {"name": "ORCHESTRATOR_TOPICS", "value": f"{mounted}/topics.yaml"} in container["env"]

    app = tmp_path / "app"
    shutil.copytree(helm.ROOT / "schemas", app / "schemas")
    shutil.copy(helm.ROOT / "topics.yaml", app)
    shipped = helm.ROOT / "deploy" / "definitions" / "telco" / "inputs" / "topics.yaml"
    declared = shipped.read_text(encoding="utf-8").replace("../../../../topics.yaml", "../../topics.yaml")
    files = {"topics.yaml": declared.replace("schema: telco/", "schema: inputs/")}
    files |= {path.name: path.read_text(encoding="utf-8") for path in (app / "schemas" / "telco").glob("*.avsc")}
    shutil.rmtree(app / "schemas" / "telco")
    data = tmp_path / mounted.removeprefix("/") / "..data"  # Kubernetes mounts links into a folder that it exchanges
    data.mkdir(parents=True)
    for name, text in files.items():
        (data / name).write_text(text, encoding="utf-8")
        (data.parent / name).symlink_to(Path("..data") / name)

    topics = load_topics(data.parent / "topics.yaml", app / "schemas")

    assert {"usage", "contracts", "clickstream"} <= {topic.name for topic in topics}
    assert {"inputs/usage_event", "inputs/contract_event"} <= {topic.schema for topic in topics}


def test_tokens_instead_of_passwords() -> None:
    """Both roles and KEDA are told where tokens are to be had."""
    token = "https://issuer.example.com/token"
    sets = ('kafka.saslMechanism="OAUTHBEARER"', f'kafka.saslTokenUrl="{token}"', 'membership="dynamic"')

    documents = helm.documents(helm.template(generated.SETS["static-sasl-ssl"], sets=(*sets, "keda.enabled=true")))

    for pod in pods(documents):
        [container] = pod["spec"]["containers"]
        assert {"name": "ORCHESTRATOR_SASL_TOKEN_URL", "value": token} in container["env"]
    assert of_kind(documents, "TriggerAuthentication")["spec"]["env"][1]["parameter"] == "oauthTokenEndpointUri"
    assert of_kind(documents, "ScaledObject")["spec"]["triggers"][0]["metadata"]["sasl"] == "oauthbearer"
    policy = of_kind(documents, "NetworkPolicy", "engine")["spec"]
    assert {443, 9094} <= {port["port"] for rule in policy["egress"] for port in rule["ports"]}


def test_the_network_is_closed_but_for_what_is_needed(rendered: dict[str, list[Document]]) -> None:
    """In come scrapes, and to control its readers; out go names, brokers and the registry."""
    engine = of_kind(rendered["static-sasl-ssl"], "NetworkPolicy", "engine")["spec"]
    control = of_kind(rendered["static-sasl-ssl"], "NetworkPolicy", "control")["spec"]

    assert engine["policyTypes"] == ["Ingress", "Egress"]
    assert len(engine["ingress"][0]["from"]) == 1
    assert len(control["ingress"][0]["from"]) == 2
    ports = {port["port"] for rule in engine["egress"] for port in rule["ports"]}
    assert ports == {53, 9094, 8081}
    keda = of_kind(rendered["dynamic-keda"], "NetworkPolicy", "engine")["spec"]
    assert {port["port"] for rule in keda["egress"] for port in rule["ports"]} == {53, 9093, 443}


def test_alerts_are_those_that_were_tested(rendered: dict[str, list[Document]]) -> None:
    """The PrometheusRule has every alert of the alert file, with links that lead to the runbooks."""
    tested = yaml.safe_load(generated.ALERTS.read_text(encoding="utf-8"))["groups"]
    rules = of_kind(rendered["static-sasl-ssl"], "PrometheusRule")["spec"]["groups"]

    assert generated.ALERTS_COPY.read_text(encoding="utf-8") == generated.ALERTS.read_text(encoding="utf-8")
    links = [rule["annotations"].pop("runbook_url") for group in rules for rule in group["rules"]]
    was = [rule["annotations"].pop("runbook_url") for group in tested for rule in group["rules"]]
    assert rules == tested
    assert links == [f"https://git.example.com/journey/blob/main/{link}" for link in was]


def test_workers_are_scraped(rendered: dict[str, list[Document]]) -> None:
    """The ServiceMonitor selects both services by their labels, at their port's name."""
    documents = rendered["static-sasl-ssl"]
    monitor = of_kind(documents, "ServiceMonitor")["spec"]
    services = [document for document in documents if document["kind"] == "Service"]

    assert len(services) == 2
    for service in services:
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert service["spec"]["ports"][0]["name"] == monitor["endpoints"][0]["port"]


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED_BY_THE_SCHEMA = {
    "keda to zero": ("keda.minReplicas=0", "'/keda/minReplicas': minimum: got 0, want 1"),
    "keda without a topic": ("keda.topics=[]", "'/keda/topics': minItems"),
    "an unknown membership": ('membership="sticky"', "'/membership': value must be one of 'static', 'dynamic'"),
    "a short grace": ("engine.terminationGracePeriodSeconds=30", "minimum: got 30, want 90"),
    "an unknown value": ('kafka.bootstrapServer="x:1"', "additional properties 'bootstrapServer' not allowed"),
    "an unknown setting": ('settings.COMIT_INTERVAL="1s"', "additional properties 'COMIT_INTERVAL' not allowed"),
    "a setting of the chart": ('settings.WEB_HOST="x"', "additional properties 'WEB_HOST' not allowed"),
    "a setting without unit": ('settings.COMMIT_INTERVAL="200"', "does not match pattern"),
    "an address without port": ('kafka.bootstrapServers="kafka"', "does not match pattern"),
    "no engine": ("engine.replicas=0", "minimum: got 0, want 1"),
    "root": ("podSecurityContext.runAsUser=0", "'/podSecurityContext/runAsUser': 'not' failed"),
    "maybe root": ("podSecurityContext.runAsNonRoot=false", "value must be true"),
    "a mechanism of its own": ('kafka.saslMechanism="GSSAPI"', "value must be one of 'PLAIN'"),
    "a tag as digest": ('image.digest="latest"', "does not match pattern"),
    "a topic that is a name": ('definitions.topic="definitions"', "'/definitions/topic': got string, want boolean"),
    "inputs that are a folder": ('inputs.imagePath="/app/deploy"', "does not match pattern"),
    "learning now and then": ('settings.LEARN_EVERY="sometimes"', "does not match pattern"),
    "a definition that is no YAML": ('definitions.files={"a.json":""}', "does not match pattern"),
}
REFUSED_BY_THE_CHART = {
    "no broker": ('kafka.bootstrapServers=""', "kafka.bootstrapServers is not set"),
    "static with keda": ("keda.enabled=true", "membership is static and keda.enabled is true"),
    "more engines than partitions": ("engine.replicas=49", "49 engines are more than kafka.partitions 48"),
    "no password": ('engine.kafkaUser.passwordSecret.name=""', "engine.kafkaUser needs username and passwordSecret"),
    "a password for nobody": ('kafka.securityProtocol="ssl"', "engine.kafkaUser has a password"),
    "trust without tls": ('kafka.securityProtocol="sasl_plaintext"', "kafka.caSecret is set, but"),
    "tokens from nowhere": ('kafka.saslMechanism="OAUTHBEARER"', "go together: set both or neither"),
    "two registries": ('schemaRegistry.url="http://r"', "are both set: keep one"),
    "definitions twice": ('definitions.configMap="x"', "more than one place"),
    "definitions published as well": ("definitions.topic=true", "more than one place"),
    "no definitions": ("definitions.files={}", "no definitions: put YAML files"),
    "no folder": ('definitions={"files":null,"imagePath":"topic"}', "or definitions.topic: true for those"),
    "inputs twice": ('inputs={"configMap":"x","imagePath":"/y.yaml"}', "inputs.configMap and inputs.imagePath"),
}


@pytest.mark.parametrize(("value", "said"), REFUSED_BY_THE_SCHEMA.values(), ids=REFUSED_BY_THE_SCHEMA)
def test_the_schema_refuses(value: str, said: str) -> None:
    """A value that is wrong by itself is named with its place."""
    with pytest.raises(helm.RefusedError, match=re.escape(said)):
        helm.template(generated.SETS["static-sasl-ssl"], sets=(value,))


@pytest.mark.parametrize(("value", "said"), REFUSED_BY_THE_CHART.values(), ids=REFUSED_BY_THE_CHART)
def test_the_chart_refuses(value: str, said: str) -> None:
    """Values that do not go together are refused with what to do."""
    with pytest.raises(helm.RefusedError, match=re.escape(said)):
        helm.template(generated.SETS["static-sasl-ssl"], sets=(value,))


def test_keda_has_room_between_its_limits() -> None:
    """The least is not more than the most, and the most not more than partitions."""
    for value, said in (("keda.minReplicas=30", "more than keda.maxReplicas"), ("keda.maxReplicas=49", "49 engines")):
        with pytest.raises(helm.RefusedError, match=said):
            helm.template(generated.SETS["dynamic-keda"], sets=(value,))


def test_a_password_in_a_url_is_refused() -> None:
    """It would be readable in the StatefulSet."""
    with pytest.raises(helm.RefusedError, match=r"schemaRegistry.url carries a password"):
        helm.template(generated.SETS["default"], sets=('schemaRegistry.url="https://u:p@registry"',))


# --- values, their schema and their table -----------------------------------------------------------------------------


def test_every_value_is_described_and_every_description_has_a_value() -> None:
    """Schema and values.yaml name the same, so that neither can forget."""
    described = {path for path, _ in generated.leaves(generated.schema())}
    optional = {path for path in described if path.startswith("settings.")} | {"global"}

    assert {path for path in described - optional if generated.value_at(path) is None} == set()
    assert set(paths(generated.values(), described)) - described == {"settings"}
    assert [path for path, part in generated.leaves(generated.schema()) if not part.get("description")] == []


def paths(node: dict[str, Any], known: set[str], name: str = "") -> Iterator[str]:
    """Yield the paths of values, down to where the schema names no parts."""
    for key, part in node.items():
        path = f"{name}.{key}" if name else key
        if isinstance(part, dict) and path not in known and part:
            yield from paths(part, known, path)
        else:
            yield path


def test_the_table_of_values_is_current() -> None:
    """The README tells every value."""
    assert generated.README.read_text(encoding="utf-8") == generated.readme(), "run python -m tests.deploy"


def test_settings_of_the_schema_are_settings() -> None:
    """What may be given under `settings` is read by workers, and set by nothing else in the chart."""
    allowed = set(generated.schema()["properties"]["settings"]["properties"])
    known = {setting.name for setting in environment.SETTINGS}
    helpers = "".join(path.read_text(encoding="utf-8") for path in (helm.CHART / "templates").glob("*"))

    assert allowed <= known
    assert allowed & set(re.findall(r"ORCHESTRATOR_([A-Z_]+),", helpers)) == set()


NOT_OFFERED = {
    "ORDINAL": "the end of the pod's name",
    "SCHEMAS": "those of the image, and inputs.configMap beside them",
    "STATIC_MEMBERSHIP": "membership, for engines",
    "SASL_PASSWORD": "a file",
    "WEB_TOKEN": "a file",
    "ERASURE_SALT": "a file",
}


def test_every_setting_can_be_had() -> None:
    """A setting of workers is set by the chart, offered under `settings`, or left out for a reason."""
    templates = "".join(path.read_text(encoding="utf-8") for path in (helm.CHART / "templates").glob("*.*"))
    offered = set(generated.schema()["properties"]["settings"]["properties"])
    had = offered | set(re.findall(r"name: ORCHESTRATOR_([A-Z_]+),", templates))

    assert {setting.name for setting in environment.SETTINGS} - had - NOT_OFFERED.keys() == set()


def test_the_control_role_has_room_to_learn_what_was_measured() -> None:
    """Its limit holds the largest learner that was measured, with a third to spare."""
    measured = json.loads((helm.ROOT / "bench" / "results" / "learning.json").read_text(encoding="utf-8"))
    limit = str(generated.value_at("control.resources")["limits"]["memory"])

    assert limit.endswith("Gi")
    assert int(limit.removesuffix("Gi")) * 1024 >= 1.33 * max(found["memory"] for found in measured["found"])


def test_partitions_and_inputs_are_those_of_topics_yaml() -> None:
    """The chart's defaults agree with the topics the image ships."""
    topics = load_topics(helm.ROOT / "topics.yaml")

    assert generated.value_at("kafka.partitions") == topics.partitions
    assert generated.value_at("keda.topics") == [topic.name for topic in topics.inputs]


def test_the_chart_has_the_versions_number() -> None:
    """The image it asks for is the one of this version."""
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text(encoding="utf-8"))

    assert (chart["version"], chart["appVersion"]) == (orchestrator.__version__, orchestrator.__version__)


def test_volumes_and_users_are_those_of_the_image() -> None:
    """State is where the image expects it, under the user that the image has."""
    image = (helm.ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")

    assert f"USER {generated.value_at('podSecurityContext')['runAsUser']}" in image
    assert "ORCHESTRATOR_STATE_DIR=/state" in image


# --- what people copy: the README's commands, and the files of values ------------------------------------------------

README = generated.README.read_text(encoding="utf-8")
[INSTALL, *FURTHER] = [block.replace("\\\n", " ") for block in blocks(README, "sh")]


def given(block: str) -> dict[str, str]:
    """Return what the helm commands of a block set, with the shell's variables filled in."""
    variables = dict(re.findall(r"^([A-Z]+)=(\S+)", block, re.MULTILINE))
    return {key: re.sub(r"\$([A-Z]+)", lambda name: variables[name[1]], text) for key, text in _sets(block)}


def _sets(block: str) -> list[tuple[str, str]]:
    return re.findall(r"--set ([\w.]+)=(\S+)", block)


def test_what_the_readme_sets_are_values() -> None:
    """A name that the schema refuses, or that nothing reads, would stop whoever copies it."""
    named = [key for block in (INSTALL, *FURTHER) for key, _ in _sets(block)]

    assert "kafka.caSecret.name" in named
    assert [key for key in named if generated.value_at(key) is None] == []


def test_the_readmes_install_fits_together() -> None:
    """The image that was pushed, the users that were made and the Secrets that were copied are those the pods have."""
    sets = given(INSTALL)
    arguments = [text for key, value in sets.items() for text in ("--set", f"{key}={value}")]
    documents = helm.documents(
        helm.run("template", "journey", str(helm.CHART), "--kube-version", helm.KUBERNETES, *arguments)
    )
    pushed = re.findall(r"docker push (\S+)", INSTALL)
    manifests = helm.documents(generated.manifests("topics-strimzi"))
    users = {each["metadata"]["name"] for each in manifests if each["kind"] == "KafkaUser"}
    copied = set(re.findall(r"^for secret in (.+); do$", INSTALL, re.MULTILINE)[0].split())

    assert "--cluster my-cluster --namespace kafka" in INSTALL
    assert {each["metadata"]["labels"]["app.kubernetes.io/part-of"] for each in manifests} == {"journey-orchestrator"}
    for pod in pods(documents):
        [container] = pod["spec"]["containers"]
        assert [container["image"]] == [name.replace("$IMAGE", sets["image.repository"]) for name in pushed]
        named = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert named["ORCHESTRATOR_SASL_USERNAME"] in users
        [secrets] = [volume["projected"]["sources"] for volume in pod["spec"]["volumes"] if volume["name"] == "secrets"]
        assert {source["secret"]["name"] for source in secrets} <= copied
        assert (helm.ROOT / str(named["ORCHESTRATOR_DEFINITIONS"]).removeprefix("/app/")).is_dir()
    assert "statefulset/" + of_kind(documents, "StatefulSet")["metadata"]["name"] in INSTALL


@pytest.mark.parametrize("path", sorted(helm.CHART.rglob("*values*.yaml")), ids=lambda path: path.name)
def test_definitions_in_values_lint(path: Path, tmp_path: Path) -> None:
    """What is there to be copied is what the engine accepts."""
    definitions = yaml.safe_load(path.read_text(encoding="utf-8"))["definitions"]
    folder = helm.ROOT / definitions.get("imagePath", "").removeprefix("/app/")
    if files := definitions.get("files"):
        folder = tmp_path
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    elif folder == helm.ROOT:
        assert path.name == "values.yaml" or definitions.keys() & {"configMap", "topic"}
        return

    ended = CliRunner().invoke(main, ["lint", str(folder)])

    assert ended.exit_code == 0, ended.output


def test_the_readmes_links_lead_somewhere() -> None:
    """To a file that is there, and a heading that it has."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", README):
        name, _, anchor = target.partition("#")
        file = (helm.CHART / name).resolve() if name else generated.README

        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{target} names no heading"
