"""The Prefect and MLflow servers: found if they run, else started as children that end with us."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.guard import start_guarded, stop
from flows.home import Home
from storage.errors import BrokenError
from storage.locks import held_since, locked

STARTUP_SECONDS = 600
"""A server that does not answer by then is taken for broken; 8 to 20 s were measured on two quiet cores."""
_LOOPBACK = "127.0.0.1"


class ServerBroken(BrokenError):
    """Prefect's or MLflow's server does not start or does not answer."""


@dataclass(frozen=True)
class Addresses:
    """Where a running ``athanor up`` serves."""

    pid: int
    prefect: str
    mlflow: str
    tracking: str = ""
    """``MLFLOW_TRACKING_URI`` as its sender of records has it."""
    sender: int = 0
    """Process that sends the records of runs to MLflow; 0 as long as there is none."""


def running_up(home: Home) -> Addresses | None:
    """The servers of ``athanor up``, if it runs: its lock is held, and Prefect answers."""
    if held_since(home.lock("up")) is None or not home.up.exists():
        return None
    addresses = Addresses(**json.loads(home.up.read_text()))
    return addresses if answers(f"{addresses.prefect}/api/health") else None


@contextmanager
def prefect_api(home: Home, meanwhile: Callable[[str], None]) -> Iterator[bool]:
    """Have a Prefect API: ``PREFECT_API_URL``, that of a running ``up``, or of a temporary server (True).

    ``meanwhile`` is called with its address, while a temporary server is still starting. Raises
    ServerBroken if the API does not answer.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        if not answers(f"{given.rstrip('/')}/health", seconds=10):
            raise ServerBroken(
                f"PREFECT_API_URL: no Prefect server answers at {given}; start it, or unset PREFECT_API_URL"
            )
        meanwhile(given)
        yield False
        return
    os.environ.setdefault("PREFECT_API_SSL_CERT_FILE", str(_one_certificate(home)))
    addresses = running_up(home)
    if addresses is not None:
        meanwhile(f"{addresses.prefect}/api")
        yield False
        return
    port = free_port()
    address = f"http://{_LOOPBACK}:{port}/api"
    process = start_prefect(home, _LOOPBACK, port, temporary=True, meanwhile=lambda: meanwhile(address))
    try:
        yield True
    finally:
        stop(process)


def _one_certificate(home: Home) -> Path:
    """A file with the first certificate of the usual bundle, which makes Prefect's clients quick to create.

    They speak plain HTTP here and look at none, but each loads all that it is given: the whole bundle
    takes it 25 to 35 ms of processor time, even where it is told to verify nothing, and a run makes a dozen.
    """
    path = home.prefect / "one-certificate.pem"
    if not path.exists():
        import certifi

        end = "-----END CERTIFICATE-----"
        first = certifi.contents().partition(end)[0] + end + "\n"
        home.prefect.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(first, encoding="utf-8")
        beside.replace(path)
    return path


def prefect_environment(home: Home) -> dict[str, str]:
    """Variables for every process that uses Prefect here; what the user has set stays."""
    defaults = {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_SECONDS),
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
    }
    return {**defaults, **os.environ}


def start_prefect(
    home: Home, host: str, port: int, *, temporary: bool, meanwhile: Callable[[], None] = lambda: None
) -> subprocess.Popen[bytes]:
    """Start a Prefect server over the database in ``home`` and wait until it answers, doing ``meanwhile`` first."""
    environment = prefect_environment(home) | {"PREFECT__SERVER_FINAL": "1"}
    environment.pop("PREFECT_API_URL", None)
    if temporary:
        environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    else:
        environment |= {"PREFECT_UI_API_URL": f"http://{reachable(host)}:{port}/api"}
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", host, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    # Creating and migrating the database is for one server at a time; later ones find it done.
    with locked(home.lock("prefect")):
        ready, version = home.prefect / "schema", importlib.metadata.version("prefect")
        ours = "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in environment and (home.prefect / "prefect.db").exists()
        if ours and ready.exists() and ready.read_text() == version:
            environment |= {
                "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
                "PREFECT_SERVER_API_BLOCKS_REGISTER_ON_START": "false",
                "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
            }
        home.prefect.mkdir(parents=True, exist_ok=True)
        log = home.folder / "logs" / "prefect.log"
        process = start_guarded(command, log, environment)
        meanwhile()
        _wait_for(process, f"http://{reachable(host)}:{port}/api/health", "Prefect", log)
        ready.write_text(version)
    return process


def mlflow_environment() -> dict[str, str]:
    """Variables for every process that uses MLflow here; what the user has set stays."""
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MPLBACKEND": "Agg",
    }
    return {**defaults, **os.environ}


def start_mlflow(home: Home, host: str, port: int) -> subprocess.Popen[bytes]:
    """Start an MLflow server over the database in ``home`` and wait until it answers."""
    home.mlflow_files.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", home.tracking_uri, "--default-artifact-root", home.mlflow_files.as_uri()]
    environment = mlflow_environment() | {"MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    log = home.folder / "logs" / "mlflow.log"
    with locked(home.lock("mlflow")):
        process = start_guarded(command, log, environment)
        _wait_for(process, f"http://{reachable(host)}:{port}/health", "MLflow", log)
    return process


def _wait_for(process: subprocess.Popen[bytes], url: str, name: str, log: Path) -> None:
    """Wait until ``url`` answers; ServerBroken if the server ends or takes too long."""
    end = time.monotonic() + STARTUP_SECONDS
    while not answers(url):
        if process.poll() is not None or time.monotonic() > end:
            stop(process)
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise ServerBroken(f"{name}'s server does not start: {last[0]} (more in {log})")
        time.sleep(0.1)


def answers(url: str, seconds: float = 2.0) -> bool:
    """Whether a GET of ``url`` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as response:  # noqa: S310 - http addresses of servers
            return bool(response.status == 200)
    except (OSError, ValueError, http.client.HTTPException):  # the last: something else listens there
        return False


def free_port(preferred: int = 0, host: str = _LOOPBACK) -> int:
    """``preferred`` if it can be listened on, else any port that is free."""
    for port in (preferred, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise ServerBroken(f"no port can be listened on at {host}")


def reachable(host: str) -> str:
    """An address under which a server that listens on ``host`` can be reached from here."""
    return _LOOPBACK if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - compared, not bound
