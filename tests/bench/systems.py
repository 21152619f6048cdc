"""How each system is started, what its clients send, and, for the gateway, whether every request was billed once."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.bench import payloads, peers
from tests.bench.procs import Process, Unavailable, free_port

ROOT = Path(__file__).resolve().parents[2]
READY_S = 180
SETTLED_S = 20


@dataclass
class Place:
    """Where a run happens."""

    core: int
    upstream_port: int
    directory: Path

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.upstream_port}"


def clean_env(**more: str) -> dict[str, str]:
    """The environment without proxies and without settings of a gateway of the developer's own."""
    drop = ("gatewayctl_", "litellm_", "openai_")
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.lower().startswith(drop)}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return kept | {"PYTHONPATH": path, "NO_PROXY": "127.0.0.1"} | more


@dataclass
class System:
    """One column of the table. `served` counts complete replies by mode, from the first request on."""

    place: Place
    name = "direct"
    title = "direct"
    ready_path = "/v1/models"
    version: str = ""
    port: int = 0
    process: Process | None = None
    headers: dict[str, str] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=lambda: dict.fromkeys(payloads.MODES, 0))
    failed: int = 0

    def start(self) -> None:
        """Install, configure and start; return when a chat works. Unavailable when it cannot be."""
        self.port = free_port()
        command, env = self.launch()
        log = self.place.directory / f"{self.name}.log"
        self.process = Process(command, self.place.core, log, env, self.place.directory)
        self.wait_ready()

    def launch(self) -> tuple[list[str], dict[str, str]]:
        """Command and environment."""
        raise NotImplementedError

    def wait_ready(self) -> None:
        deadline, said = time.monotonic() + READY_S, ""
        while time.monotonic() < deadline:
            if self.process and self.process.popen.poll() is not None:
                raise Unavailable(f"ended at start: {self.process.last_words()}")
            try:
                status, body = self.ask("GET", self.ready_path)
                if status == 200:
                    break
                said = f"{status} {body[:100]!r}"
            except (OSError, http.client.HTTPException) as error:
                said = str(error)
            time.sleep(0.25)
        else:
            raise Unavailable(f"not ready after {READY_S} s: {said}")
        for mode in ("chat", "stream"):
            status, body = self.ask("POST", "/v1/chat/completions", payloads.request_body(mode))
            fault = payloads.chat_fault(body) if mode == "chat" else payloads.stream_fault(body)
            if status != 200 or fault:
                raise Unavailable(f"does not relay a {mode} correctly: {status} {fault}: {body[:300]!r}")
            self.served[mode] += 1

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, self.headers | {"content-type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """End what `start` started."""
        if self.process:
            self.process.stop()


class Direct(System):
    """No system: the load talks to the upstream. Shows what the load side can do and what latency is its own."""

    def start(self) -> None:
        self.port = self.place.upstream_port
        self.wait_ready()


@dataclass
class Floor(System):
    """Quart + Hypercorn + httpx, see floor.py."""

    name = "floor"
    title = "floor"
    ready_path = "/health"
    transport = "httpx"

    def launch(self) -> tuple[list[str], dict[str, str]]:
        packages = ["quart", "hypercorn", "httpx", *(["httpx-aiohttp"] if self.transport == "aiohttp" else [])]
        try:
            self.version = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in [*packages, "uvloop"])
        except importlib.metadata.PackageNotFoundError as error:
            raise Unavailable(f"not installed: {error}") from error
        command = [sys.executable, "-m", "tests.bench.floor", "--port", str(self.port), "--upstream", self.place.upstream]
        return [*command, "--transport", self.transport], clean_env()


@dataclass
class FloorAiohttp(Floor):
    """The same behind httpx-aiohttp."""

    name = "floor-aiohttp"
    title = "floor+aiohttp"
    transport = "aiohttp"


@dataclass
class LiteLLM(System):
    """LiteLLM proxy: one worker, no database, no callbacks, no network of its own."""

    name = "litellm"
    title = "LiteLLM"
    ready_path = "/health/liveliness"

    def launch(self) -> tuple[list[str], dict[str, str]]:
        command, self.version = peers.litellm()
        self.headers = {"authorization": "Bearer sk-bench-master"}
        model = {"model": f"openai/{payloads.MODEL}", "api_base": f"{self.place.upstream}/v1", "api_key": "sk-upstream"}
        config = {
            "model_list": [{"model_name": payloads.MODEL, "litellm_params": model}],
            "litellm_settings": {"set_verbose": False, "telemetry": False},
            "general_settings": {"master_key": "sk-bench-master"},
        }
        path = self.place.directory / "litellm.yaml"
        path.write_text(json.dumps(config, indent=1))  # JSON is YAML
        env = clean_env(
            LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_MODE="PRODUCTION", LITELLM_LOG="ERROR",
            LITELLM_TELEMETRY="False", DISABLE_ADMIN_UI="True", HF_HUB_OFFLINE="1",
        )  # fmt: skip
        env.pop("PYTHONPATH")
        arguments = ["--config", str(path), "--host", "127.0.0.1", "--port", str(self.port), "--num_workers", "1"]
        return [str(command), *arguments], env


@dataclass
class Portkey(System):
    """Portkey gateway on Node: stateless. Its default list of trusted custom hosts has 127.0.0.1 in it."""

    name = "portkey"
    title = "Portkey"
    ready_path = "/"

    def launch(self) -> tuple[list[str], dict[str, str]]:
        script, self.version = peers.portkey()
        self.headers = {
            "authorization": "Bearer sk-upstream",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{self.place.upstream}/v1",
        }
        return ["node", str(script), f"--port={self.port}", "--headless"], clean_env(NODE_ENV="production")


PRICES = {"input": Decimal("0.15"), "output": Decimal("0.60")}  # USD per million tokens
TOPUP = Decimal(100_000)


def cost_usd(usage: tuple[int, int]) -> Decimal:
    """What one request of this usage is charged."""
    return (usage[0] * PRICES["input"] + usage[1] * PRICES["output"]) / 1_000_000


@dataclass
class Gateway(System):
    """gatewayctl through its own command line, every setting at its default: durable billing, synchronous FULL."""

    name = "gateway"
    title = "gateway"
    ready_path = "/health"
    protocol = "openai"
    user_options: tuple[str, ...] = ()
    key_options: tuple[str, ...] = ()

    def cli(self, *arguments: str, secret: str = "") -> str:
        """Standard output of one gatewayctl command. Unavailable when it fails."""
        env = self.env() | {"BENCH_UPSTREAM_KEY": secret}
        command = [*gatewayctl(), *arguments]
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"gatewayctl {' '.join(arguments)}: {error}") from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split()) or "no output"
            raise Unavailable(f"gatewayctl {' '.join(arguments)}: exit {done.returncode}: {said[:300]}")
        return done.stdout

    def env(self) -> dict[str, str]:
        return clean_env(GATEWAYCTL_HOME=str(self.place.directory / f"home-{self.name}"))

    def launch(self) -> tuple[list[str], dict[str, str]]:
        self.cli("init")
        self.cli("providers", "add", "bench", "--protocol", self.protocol, "--base-url", f"{self.place.upstream}/v1")
        self.cli("credentials", "add", "bench", "--from-env", "BENCH_UPSTREAM_KEY", secret="sk-upstream")
        prices = ["--input-price", str(PRICES["input"]), "--output-price", str(PRICES["output"])]
        limits = ["--context-length", "128000", "--max-output", "4096"]
        self.cli("models", "add", payloads.MODEL, "--provider", "bench", *prices, *limits)
        self.cli("users", "create", "bench", *self.user_options)
        self.cli("topup", "bench", str(TOPUP), "--ref", "bench")
        key = self.cli("keys", "create", "--user", "bench", "--quiet", *self.key_options).strip()
        self.headers = {"authorization": f"Bearer {key}"}
        self.version = tree_version()
        serve = ["serve", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [*gatewayctl(), *serve], self.env()

    def verify_billing(self) -> dict[str, Any]:
        """Compare the ledger with the replies counted: {"ok", "expected", "found", "faults": [text]}.

        Waits up to SETTLED_S for settlements under way. Every reply has a known price, so the balance must be right to
        the nano-USD; one charge per reply, no hold left, sums equal, usage records as many as charges.
        """
        streams = self.served["stream"] + self.served["paced"]
        requests = self.served["chat"] + streams
        spent = self.served["chat"] * cost_usd(payloads.CHAT_USAGE) + streams * cost_usd(payloads.STREAM_USAGE)
        expected = {"requests": requests, "spent": str(spent.normalize()), "held": "0"}
        deadline = time.monotonic() + SETTLED_S
        while True:
            ledger = json.loads(self.cli("ledger", "verify", "--json"))
            balance = json.loads(self.cli("balances", "show", "bench", "--json"))
            summary = json.loads(self.cli("usage", "summary", "--json"))
            found = {
                "requests": int(ledger["entries"]) - 1,  # the top-up
                "spent": str((TOPUP - Decimal(balance["balance"])).normalize()),
                "held": str(Decimal(balance["held"]).normalize()),
            }
            faults = [f"{k}: expected {expected[k]}, the ledger says {found[k]}" for k in expected if expected[k] != found[k]]
            if not ledger["ok"] or ledger["drift"] or ledger["stale_holds"]:
                faults.append(f"ledger verify: drift {ledger['drift']}, stale holds {ledger['stale_holds']}")
            counted = find_count(summary)
            if counted is not None and counted != requests:
                faults.append(f"usage summary: {counted} requests, {requests} served")
            if self.failed:
                faults.append(f"{self.failed} requests failed, so the ledger cannot be compared")
            if not faults or self.failed or time.monotonic() > deadline:
                found["usage summary"] = counted
                return {"ok": not faults, "expected": expected, "found": found, "faults": faults}
            time.sleep(1)


@dataclass
class Limited(Gateway):
    """The same with every limit on every request, none of which is ever reached."""

    name = "limited"
    title = "all limits"
    user_options: tuple[str, ...] = ("--rpm", "100000000")
    key_options: tuple[str, ...] = ("--rpm", "100000000", "--tpm", "2000000000", "--max-parallel", "100000")


@dataclass
class Translated(Gateway):
    """The same before a provider that speaks the Messages API: every request and reply is translated."""

    name = "translated"
    title = "translated"
    protocol = "anthropic"


def tree_version() -> str:
    """The version of this tree with its commit, as far as it can be told."""
    import db

    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
    )
    commit = f" at commit {done.stdout.strip()}" if done.returncode == 0 else ""
    return f"{getattr(db, '__version__', 'unknown version')}{commit}"


def find_count(document: Any) -> int | None:
    """The first "requests" or "count" in a usage summary, whatever stands around it."""
    if isinstance(document, dict):
        for name in ("requests", "count"):
            if isinstance(document.get(name), int | str) and str(document[name]).isdigit():
                return int(document[name])
        document = list(document.values())
    if isinstance(document, list):
        return next((found for part in document if (found := find_count(part)) is not None), None)
    return None


def gatewayctl() -> list[str]:
    """The command of this environment, or the package of this tree."""
    here = Path(sys.executable).parent / "gatewayctl"
    if here.exists():
        return [str(here)]
    if (ROOT / "gatewayctl" / "__main__.py").exists():
        return [sys.executable, "-m", "gatewayctl"]
    found = shutil.which("gatewayctl")
    if not found:
        raise Unavailable("gatewayctl is not installed in this environment")
    return [found]


SYSTEMS: dict[str, type[System]] = {
    system.name: system for system in (Direct, Gateway, Limited, Translated, Floor, FloorAiohttp, LiteLLM, Portkey)
}
BY_NAME_ONLY = ("limited",)
