"""`python -m tests.bench`: measure the gateway and its peers in one run, print one table, write docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import load, procs, report
from tests.bench.peers import cache_dir
from tests.bench.procs import Process, Unavailable
from tests.bench.systems import BY_NAME_ONLY, ROOT, SYSTEMS, Gateway, Place, System, clean_env

PAGE = ROOT / "docs" / "performance.md"
# name → (mode, concurrency)
SCENARIOS = {
    "chat_c1": ("chat", 1),
    "chat_c32": ("chat", 32),
    "stream_c1": ("stream", 1),
    "stream_c32": ("stream", 32),
    "paced_c32": ("paced", 32),
}
PACE_MS = 10
# Before anything counts: Node compiles hot code for seconds on one core, Python fills its caches.
WARM_UP = ("chat_c32", "stream_c32")
DRAIN_S = 30.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 round of 2 s per cell; does not write the page")
    parser.add_argument("--systems", help=f"comma-separated, of {','.join(SYSTEMS)}; default all but {','.join(BY_NAME_ONLY)}")
    parser.add_argument("--scenarios", help=f"comma-separated, of {','.join(SCENARIOS)}; default all")
    parser.add_argument("--seconds", type=float, help="per cell; default 6")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--json", action="store_true", help="print every cell as JSON instead of the table")
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, help="write docs/performance.md")
    options = parser.parse_args()
    options.complete = not (options.quick or options.systems or options.scenarios)
    options.seconds = options.seconds or (2.0 if options.quick else 6.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.systems = options.systems.split(",") if options.systems else [name for name in SYSTEMS if name not in BY_NAME_ONLY]
    options.scenarios = options.scenarios.split(",") if options.scenarios else list(SCENARIOS)
    for name, known in [(n, SYSTEMS) for n in options.systems] + [(n, SCENARIOS) for n in options.scenarios]:
        if name not in known:
            parser.error(f"no such system or scenario: {name}")
    # Ratios to the direct connection are part of every run.
    options.systems = ["direct", *(name for name in options.systems if name != "direct")]
    options.write = options.complete if options.write is None else options.write
    return options


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine(directory: Path) -> dict[str, Any]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    filesystem = subprocess.run(
        ["stat", "-f", "-c", "%T", str(directory)], capture_output=True, text=True, check=False, timeout=10
    ).stdout.strip()
    return {
        "cpu": f"{models[0].partition(':')[2].strip() if models else platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": filesystem,
        "fdatasync_ms": procs.fdatasync_ms(directory),
    }


def measure(system: System, scenario: str, seconds: float) -> dict[str, Any]:
    """One cell: run the load in a process of its own beside the upstream; read the core's use before and after."""
    mode, concurrency = SCENARIOS[scenario]
    # A quarter of the window: slow systems finish their first turn of 32 before anything counts.
    job = load.Job(
        port=system.port, mode=mode, concurrency=concurrency, seconds=seconds, warmup=max(1.0, seconds / 4),
        drain=DRAIN_S, min_replies=4 * concurrency, headers=system.headers,
    )  # fmt: skip
    core = system.place.core
    cpu, busy, started = system.process.cpu_s() if system.process else 0.0, procs.core_busy_s(core)[0], time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"], input=json.dumps(asdict(job)), env=clean_env(), cwd=ROOT,
        capture_output=True, text=True, timeout=job.warmup + 4 * seconds + DRAIN_S + 30, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr[-500:]}")
    elapsed, busy = time.monotonic() - started, procs.core_busy_s(core)[0] - busy
    cpu = system.process.cpu_s() - cpu if system.process else 0.0
    cell: dict[str, Any] = json.loads(done.stdout)
    system.served[mode] += cell["replies_total"]
    system.failed += cell["errors_total"]
    return cell | {
        "system": system.name,
        "scenario": scenario,
        "cpu_ms": cpu * 1000 / cell["replies_total"] if cell["replies_total"] and system.process else None,
        "core_share": cpu / cell["active_s"],
        "foreign_share": max(0.0, (busy - cpu) / elapsed),
    }


def run_rounds(systems: list[System], options: argparse.Namespace, home: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """(cells, disk flushes per second of the gateway's chat cells). A B C, B C A, C A B: no system is always first."""
    cells, flushes = [], []
    for number in range(options.rounds):
        shift = number % len(systems)
        for scenario in options.scenarios:
            for system in systems[shift:] + systems[:shift]:
                before, started = procs.disk_flushes(home), time.monotonic()
                cell = measure(system, scenario, options.seconds) | {"round": number}
                cells.append(cell)
                after = procs.disk_flushes(home)
                if system.name == "gateway" and scenario == "chat_c32" and before is not None and after is not None:
                    flushes.append((after - before) / (time.monotonic() - started))
                p50, errors = cell["latency_ms"].get("p50"), cell["errors_total"]
                say(
                    f"round {number + 1}/{options.rounds} {scenario:10} {system.name:14} {cell['rate']:10.1f}/s"
                    f"  p50 {p50} ms  core {cell['core_share']:.0%}  foreign {cell['foreign_share']:.0%}"
                    + (f"  ERRORS {errors} {cell['error_samples'][:1]}" if errors else "")
                )
    return cells, flushes


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Start everything, measure, check the bill, stop everything."""
    core, load_core = procs.two_cores()
    port = procs.free_port()
    place = Place(core, port, directory)
    skipped: dict[str, str] = {}
    systems = [SYSTEMS[name](place) for name in options.systems]
    result: dict[str, Any] = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine(directory)}
    result |= {"command": " ".join(["python -m tests.bench", *sys.argv[1:]]), "skipped": skipped}
    result["options"] = {name: getattr(options, name) for name in ("seconds", "rounds", "scenarios")}
    command = [sys.executable, "-m", "tests.bench.upstream", "--port", str(port), "--pace-ms", str(PACE_MS)]
    upstream = Process(command, load_core, directory / "upstream.log", clean_env(), ROOT)
    memory: dict[str, dict[str, Any]] = {}
    try:
        for system in systems:
            say(f"starting {system.name}")
            try:
                system.start()
            except Unavailable as why:
                skipped[system.name] = str(why)
                say(f"skipped {system.name}: {why}")
                system.stop()
        running = [system for system in systems if system.name not in skipped]
        # Installers want both cores; from here on this program keeps off the measured one.
        os.sched_setaffinity(0, {load_core})
        time.sleep(3)
        for system in running:
            if system.process:
                memory[system.name] = {"system": system.name, "scenario": "memory", "round": 0}
                memory[system.name]["rest"] = system.process.rss_mb()
        for system in (system for system in running if system.process):
            for scenario in WARM_UP:
                say(f"warming up {system.name}, {scenario}")
                measure(system, scenario, options.seconds)
        cells, flushes = run_rounds(running, options, directory)
        for system in running:
            if system.process:
                memory[system.name]["after"] = system.process.rss_mb()
            if isinstance(system, Gateway):
                result.setdefault("billing", []).append(system.verify_billing())
        result["flushes_per_s"] = sum(flushes) / len(flushes) if flushes else None
        result["cells"] = [*cells, *memory.values()]
    finally:
        for system in systems:
            system.stop()
        upstream.stop()
    result["systems"] = {s.name: {"title": s.title, "version": s.version, "served": s.served} for s in systems}
    return result


def main() -> int:
    """0 measured; 1 void, because the gateway's ledger does not match; 2 not possible here, or without the gateway."""
    options = arguments()
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=cache_dir()))
    keep = False
    try:
        with procs.sigterm_ends_cleanly(), procs.alone(cache_dir()):
            result = run(options, directory)
    except Unavailable as why:
        say(f"no benchmark: {why}")
        return 2
    except BaseException:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    generated = report.render(result)
    print(json.dumps(result, indent=1, default=str) if options.json else generated)
    void = not all(ledger["ok"] for ledger in result.get("billing", ()))
    absent = "gateway" in result["skipped"]
    if options.write and not void and not absent:
        report.write_page(PAGE, generated)
        say(f"wrote {PAGE}")
    return 1 if void else 2 if absent else 0


if __name__ == "__main__":
    sys.exit(main())
