"""``athanor up``: both servers and all deployments, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace

from flows.guard import start_guarded, stop
from flows.home import Home
from flows.journal import journals, waiting_records
from flows.run import MLFLOW_PORT, PREFECT_PORT
from flows.senders import finish_sender, start_sender
from flows.servers import (
    Addresses,
    ServerBroken,
    free_port,
    mlflow_environment,
    prefect_environment,
    reachable,
    running_up,
    start_mlflow,
    start_prefect,
)
from storage.errors import UserError
from storage.locks import locked

_POLL_SECONDS = 1.0


def up(home: Home, host: str) -> int:
    """Serve until interrupted. Raises UserError if it is running already, ServerBroken if a server does not start."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    with ExitStack() as stack:
        stack.enter_context(locked(home.lock("up"), on_wait=lambda: _refuse(home)))
        servers, addresses = _start_servers(home, host, stack)
        home.up.write_text(json.dumps(asdict(addresses)))
        stack.callback(home.up.unlink, missing_ok=True)
        servers["the deployments"] = _start_serving(home, addresses)
        stack.callback(stop, servers["the deployments"])
        _say(f"Prefect  {addresses.prefect}\nMLflow   {addresses.mlflow}")
        _say("every recipe that ships or lies in this folder is served as a deployment; Ctrl-C ends all")
        _flush_outbox(home)
        servers["MLflow's writer"] = writer = start_sender(home, for_all=True)
        stack.callback(finish_sender, writer)
        home.up.write_text(json.dumps(asdict(replace(addresses, tracking=home.tracking_uri, sender=writer.pid))))
        while not asked.wait(_POLL_SECONDS):
            for name, process in servers.items():
                if process.poll() is not None:
                    raise ServerBroken(f"{name} ended by itself; {home.folder / 'logs'} says why")
        _say("ending")
    return 0


def _refuse(home: Home) -> None:
    addresses = running_up(home)
    where = f": Prefect {addresses.prefect}, MLflow {addresses.mlflow}" if addresses else ""
    raise UserError(f"`athanor up` runs already for {home.folder}{where}")


def _start_servers(home: Home, host: str, stack: ExitStack) -> tuple[dict[str, subprocess.Popen[bytes]], Addresses]:
    """Both servers at once, on their usual ports or on others if those are taken; stopped with ``stack``."""
    prefect_port = free_port(PREFECT_PORT, host)
    mlflow_port = free_port(MLFLOW_PORT, host)
    with ThreadPoolExecutor(2) as pool:
        starting = {
            "Prefect's server": pool.submit(start_prefect, home, host, prefect_port, temporary=False),
            "MLflow's server": pool.submit(start_mlflow, home, host, mlflow_port),
        }
    servers: dict[str, subprocess.Popen[bytes]] = {}
    for name, future in starting.items():
        if future.exception() is None:
            servers[name] = future.result()
            stack.callback(stop, servers[name])
    for future in starting.values():
        future.result()
    shown = reachable(host)
    addresses = Addresses(os.getpid(), f"http://{shown}:{prefect_port}", f"http://{shown}:{mlflow_port}")
    return servers, addresses


def _start_serving(home: Home, addresses: Addresses) -> subprocess.Popen[bytes]:
    environment = prefect_environment(home) | mlflow_environment()
    environment |= {
        "ATHANOR_HOME": str(home.folder),
        "PREFECT_API_URL": f"{addresses.prefect}/api",
        "PREFECT_RUNNER_POLL_FREQUENCY": environment.get("PREFECT_RUNNER_POLL_FREQUENCY", "3"),
    }
    return start_guarded([sys.executable, "-m", "flows.serving"], home.folder / "logs" / "deployments.log", environment)


def _flush_outbox(home: Home) -> None:
    """Send what runs could not send to MLflow."""
    if not journals(home.outbox):
        return
    answer = finish_sender(start_sender(home))
    if answer.get("failure"):
        _say(f"{waiting_records(home.outbox)} records still wait for MLflow: {answer['failure']}")
    elif answer.get("sent"):
        _say(f"sent the records of {len(answer['sent'])} earlier runs to MLflow")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
