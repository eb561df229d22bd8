"""The optional compiled build: with COMPILE_ORCHESTRATOR=1 what every event passes through is compiled by mypyc.

The sources are the same, and so is every byte that comes out (tests/test_compiled.py); `make compiled` builds in place.
"""

from __future__ import annotations

import os

from setuptools import Extension, setup

COMPILED = (
    "civil", "conditions", "contact", "engine", "features", "identity", "measurement", "program", "quotas", "step",
    "view",
    "arbitration/act", "arbitration/ahead", "arbitration/choice", "arbitration/context",
    "arbitration/decide", "arbitration/eligibility", "arbitration/exempt", "arbitration/grounds",
    "arbitration/history", "arbitration/interrupt", "arbitration/offers", "arbitration/option", "arbitration/policy",
    "arbitration/retract", "arbitration/trigger", "arbitration/weigh",
    "facts/due",
    "moments/detect", "moments/launches", "moments/lifecycle", "moments/progress", "moments/stock",
    "moments/wake", "moments/watch", "moments/worth",
    "runtime/erasures", "runtime/inbox", "runtime/intake", "runtime/outbox", "runtime/partitioner", "runtime/tally",
)  # fmt: skip
"""What pays. Not among them: records and states, which are msgspec's types; campaigns and the shapes of moments, which
msgspec reads back from states that pin them; what is not asked for every event."""


def extensions() -> list[Extension]:
    """Return what is to be compiled: nothing, unless it is asked for."""
    if os.environ.get("COMPILE_ORCHESTRATOR") != "1":
        return []
    from mypyc.build import mypycify

    level = os.environ.get("COMPILE_ORCHESTRATOR_LEVEL", "3")
    paths = [f"orchestrator/{name}.py" for name in COMPILED]
    return list(mypycify(paths, opt_level=level, debug_level="0", group_name="orchestrator"))


if __name__ != "listed":  # by a test
    setup(ext_modules=extensions())
