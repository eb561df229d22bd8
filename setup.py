"""What pyproject.toml cannot say: the optional compiled build, and what a wheel takes along from outside the package.

With COMPILE_ORCHESTRATOR=1 what every event passes through is compiled by mypyc. The sources are the same, and so is
every byte that comes out (tests/test_compiled.py); `make compiled` builds in place.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

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

SHIPPED = ("topics.yaml", "schemas", "deploy/definitions")
"""What commands need of the repository's top level, which a wheel does not have: it has them in orchestrator/shipped,
where `shipped` of orchestrator/runtime/settings.py finds them."""


def extensions() -> list[Extension]:
    """Return what is to be compiled: nothing, unless it is asked for."""
    if os.environ.get("COMPILE_ORCHESTRATOR") != "1":
        return []
    from mypyc.build import mypycify

    level = os.environ.get("COMPILE_ORCHESTRATOR_LEVEL", "3")
    paths = [f"orchestrator/{name}.py" for name in COMPILED]
    return list(mypycify(paths, opt_level=level, debug_level="0", group_name="orchestrator"))


def shipped() -> list[Path]:
    """Return the files that are taken along; a build without them fails here, not at its users."""
    if missing := [name for name in SHIPPED if not Path(name).exists()]:
        raise FileNotFoundError(f"not beside setup.py, and no wheel is whole without: {', '.join(missing)}")
    paths = [path for name in SHIPPED for path in (Path(name), *sorted(Path(name).rglob("*")))]
    return [path for path in paths if path.is_file()]


class BuildWithShipped(build_py):
    """Builds the package with the files that are taken along; an editable install finds them in the repository."""

    def run(self) -> None:
        """Copy modules, package data and what is taken along, without what an earlier build has left of it."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "orchestrator", "shipped")
        shutil.rmtree(folder, ignore_errors=True)
        for path in shipped():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path)

    def get_source_files(self) -> list[str]:
        """Return what a source distribution must have, so that a wheel can be built from it."""
        return [*super().get_source_files(), *(path.as_posix() for path in shipped())]


if __name__ != "listed":  # by a test
    setup(ext_modules=extensions(), cmdclass={"build_py": BuildWithShipped})
