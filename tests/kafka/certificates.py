"""Certificates for tests: an authority, a broker on loopback, and clients; made with openssl, valid for a day."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl; every distribution has it")
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._run("req", "-x509", *self._new(self._key, name), "-out", str(self.certificate), "-days", "1")

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the certificate and the key of somebody on loopback, as PEM files."""
        certificate, key, request = (self._folder / f"{name}.{kind}" for kind in ("pem", "key", "request"))
        more = self._folder / f"{name}.ext"
        more.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._run("req", *self._new(key, name), "-out", str(request))
        authority = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial", "-days", "1")
        self._run("x509", "-req", "-in", str(request), *authority, "-extfile", str(more), "-out", str(certificate))
        return certificate, key

    def keystore(self, name: str) -> Path:
        """Return one PEM file with the key and the certificate of somebody, as Kafka wants it."""
        certificate, key = self.issue(name)
        both = self._folder / f"{name}.both.pem"
        both.write_text(key.read_text() + certificate.read_text())
        return both

    @staticmethod
    def _new(key: Path, name: str) -> tuple[str, ...]:
        return ("-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-subj", f"/CN={name}")

    @staticmethod
    def _run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
