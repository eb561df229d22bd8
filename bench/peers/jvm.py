"""Builds the Kafka Streams peer: its jars by Maven, its one class by javac, both kept in .cache."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from bench.harness.machine import ROOT

_HERE = Path(__file__).resolve().parent / "kafka_streams"
_CACHE = ROOT / ".cache" / "bench-streams"
_FETCH_SECONDS = 600


class UnavailableError(RuntimeError):
    """A peer cannot run here, for the reason given."""


def version() -> str:
    """Return the version of Kafka Streams that the pom names."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", (_HERE / "pom.xml").read_text())
    assert found, "the pom names the version of Kafka"
    return found[1]


def command(threads_of_collector: int = 1) -> list[str]:
    """Return the command that runs the peer, building it first where that was not done, or raise UnavailableError."""
    for tool, package in (("java", "a JDK 17+"), ("javac", "a JDK 17+"), ("mvn", "Apache Maven")):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} was not found; install {package}")
    jars, classes = _CACHE / version(), _CACHE / f"classes-{version()}"
    if not jars.is_dir():
        fetched = _CACHE / "fetching"
        shutil.rmtree(fetched, ignore_errors=True)
        goals = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fetched}"]
        _run(["mvn", "-B", "-q", "-f", str(_HERE / "pom.xml"), *goals], "mvn could not get the jars")
        fetched.rename(jars)
    source = _HERE / "AbandonedCart.java"
    compiled = classes / "AbandonedCart.class"
    if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
        classes.mkdir(parents=True, exist_ok=True)
        _run(["javac", "-Xlint:all", "-cp", f"{jars}/*", "-d", str(classes), str(source)], "javac did not compile it")
    return [
        "java",
        "-Xms256m",
        "-Xmx1g",
        "-XX:+UseParallelGC",  # for throughput; the collector's default would be G1
        f"-XX:ParallelGCThreads={threads_of_collector}",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp",
        f"{classes}:{jars}/*",
        "AbandonedCart",
    ]


def _run(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{failure} in {_FETCH_SECONDS} s") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it gave no reason"]
        raise UnavailableError(f"{failure}: {said[0]}")
