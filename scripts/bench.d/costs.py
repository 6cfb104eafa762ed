#!/usr/bin/env python3
"""What one call costs the gateway: system calls, task switches, allocations, by strategy, as Markdown tables.

Usage: scripts/bench.d/costs.py SPAWNLING [STRATEGY...]      default: fresh prewarmed pooled shared

A gateway per strategy; after 300 calls, 500 are counted, by one caller on one connection, 2 ms apart, with the built-in
server. Counted is the gateway's own process, all of its threads, and nothing below it: perf-stat(1) on the tracepoint of
system calls, and on probes of the C library's `malloc`, `calloc` and `realloc`, which are put there for the run (needs
root, perf and the kernel's uprobes). Then 500 more calls under strace(1), which says which system calls they are; it
slows everything down, so its numbers serve as shares. Python's standard library only.
"""

import collections
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway import program, serving

CALLS, WARM_UP, APART = 500, 300, 0.002
ALLOCATE = ["malloc", "calloc", "realloc"]
CONFIG = """[servers.demo]
command = {command}
args = ["demo"]
strategy = "{strategy}"
"""


def c_library(pid):
    maps = Path(f"/proc/{pid}/maps").read_text()
    return re.search(r"(/\S*/libc\.so\.6)", maps)[1]


def ask(connection, number):
    """One write per request: http.client makes two, and the gateway would have to read twice."""
    body = b'{"message":"hi"}'
    lines = ["POST /v1/servers/demo/tools/echo HTTP/1.1", "host: localhost", "content-type: application/json",
             f"content-length: {len(body)}", "", ""]
    head = "\r\n".join(lines)
    for _ in range(number):
        connection.sendall(head.encode() + body)
        answer = http.client.HTTPResponse(connection, method="POST")
        answer.begin()
        body_read = answer.read()
        assert answer.status == 200, body_read
        time.sleep(APART)


def counted(pid, work):
    """Event and how often it came while the work was done."""
    events = ["raw_syscalls:sys_enter", "context-switches", *(f"probe_libc:spawnling_{name}" for name in ALLOCATE)]
    with tempfile.NamedTemporaryFile("r") as out:
        perf = subprocess.Popen(["perf", "stat", "-i", "-x,", "-o", out.name, "-e", ",".join(events), "-p", str(pid)])
        time.sleep(0.5)
        work()
        perf.send_signal(signal.SIGINT)
        perf.wait()
        rows = [line.split(",") for line in out.read().splitlines() if "," in line]
    return {row[2]: int(row[0]) for row in rows if row[0].isdigit()}


def traced(pid, work):
    """System call and how often."""
    tasks = [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
    with tempfile.NamedTemporaryFile("r") as out:
        strace = subprocess.Popen(["strace", "-c", "-q", "-o", out.name, *(word for task in tasks for word in ("-p", task))],
                                  stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        work()
        strace.send_signal(signal.SIGINT)
        strace.wait()
        rows = [line.split() for line in out.read().splitlines()]
    return collections.Counter({row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"})


def measure(spawnling, strategy):
    with serving(spawnling, CONFIG.format(command=json.dumps(spawnling), strategy=strategy)) as (pid, port):
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        ask(connection, WARM_UP)
        library = c_library(pid)
        try:
            for name in ALLOCATE:
                subprocess.run(["perf", "probe", "-q", "-x", library, "-a", f"spawnling_{name}={name}"], check=True)
            found = counted(pid, lambda: ask(connection, CALLS))
            # Without a call, for as long: what the gateway does on its own.
            resting = counted(pid, lambda: time.sleep(CALLS * APART))
            return found, resting, traced(pid, lambda: ask(connection, CALLS))
        finally:
            subprocess.run(["perf", "probe", "-q", "-d", "probe_libc:spawnling_*"], check=False)


def main():
    spawnling, *strategies = sys.argv[1:] or sys.exit(__doc__)
    spawnling = program(spawnling)
    rows, shares = [], []
    for strategy in strategies or ["fresh", "prewarmed", "pooled", "shared"]:
        found, resting, names = measure(spawnling, strategy)
        of = lambda name: found.get(name, 0) / CALLS
        allocations = sum(of(f"probe_libc:spawnling_{name}") for name in ALLOCATE)
        rows.append(f"| {strategy} | {of('raw_syscalls:sys_enter'):.1f} | {of('context-switches'):.1f} | {allocations:.0f} "
                    f"| {resting.get('raw_syscalls:sys_enter', 0)} |")
        most = ", ".join(f"{name} {number / CALLS:.1f}" for name, number in names.most_common(12))
        shares.append(f"| {strategy} | {most} |")
    print("| strategy | system calls | task switches | allocations | system calls at rest, in a second |\n| --- | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))
    print("\n| strategy | which, per call |\n| --- | --- |")
    print("\n".join(shares))


if __name__ == "__main__":
    main()
