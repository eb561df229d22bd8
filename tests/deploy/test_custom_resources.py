"""KEDA and the Prometheus operator accept what the chart renders for them."""

from __future__ import annotations

import pytest

from tests.deploy import crds, generated, helm

pytestmark = pytest.mark.timeout(600)  # the first test of a machine may fetch the schemas

SASL = (
    'kafka.securityProtocol="sasl_ssl"',
    'engine.kafkaUser={"username":"e","passwordSecret":{"name":"s"},"certificateSecret":{"name":""}}',
    "control.enabled=false",
)


def needs_schemas() -> None:
    """Skip by name where the schemas cannot be had."""
    if (reason := crds.unavailable()) is not None:
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("name", "sets", "kinds"),
    [
        ("static-sasl-ssl", (), {"ServiceMonitor", "PrometheusRule"}),
        ("dynamic-keda", (), {"ServiceMonitor", "ScaledObject", "TriggerAuthentication"}),
        ("dynamic-keda", SASL, {"ServiceMonitor", "ScaledObject", "TriggerAuthentication"}),
    ],
)
def test_operators_accept_what_is_rendered(name: str, sets: tuple[str, ...], kinds: set[str]) -> None:
    """Every resource is of its operator's own schema, with no field that it does not know."""
    needs_schemas()
    seen = set()
    for document in helm.documents(helm.template(generated.SETS[name], sets=sets)):
        validator = crds.validators().get((document["apiVersion"], document["kind"]))
        if validator is not None:
            seen.add(document["kind"])
            assert [error.message for error in validator.iter_errors(document)] == []

    assert seen == kinds


def test_a_field_that_keda_does_not_know_is_noticed() -> None:
    """The validation above can fail."""
    needs_schemas()
    [scaled] = [
        each for each in helm.documents(helm.template(generated.SETS["dynamic-keda"])) if each["kind"] == "ScaledObject"
    ]
    scaled["spec"]["maxReplicas"] = 3

    errors = crds.validators()["keda.sh/v1alpha1", "ScaledObject"].iter_errors(scaled)
    assert ["'maxReplicas' was unexpected" in error.message for error in errors] == [True]
