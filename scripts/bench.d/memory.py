#!/usr/bin/env python3
"""What a waiting call and a running call cost in memory of the gateway, and prints it as a Markdown table.

Usage: scripts/bench.d/memory.py SPAWNLING [STRATEGY...]      default: fresh shared

With 16 seats, 16 calls of a tool that sleeps run, then 240 more wait: the first time, when the gateway's heaps have still to
grow, and three times more (medians). Memory is what the gateway has written (`Private_Dirty` of smaps_rollup, proc_pid_smaps(5): no page of
a file, which becomes its own or shared as others who run the same file come and go), on top of what it had before those calls. Connections are the callers' own, one each, so their
buffers count. Python's standard library only.
"""

import http.client
import json
import statistics
import sys
import threading
import time
from pathlib import Path

from gateway import program, serving

SEATS, ALL = 16, 256
CONFIG = """concurrent = 64
starts = 4
[servers.demo]
command = {command}
args = ["demo"]
strategy = "{strategy}"
deadline = "2m"
limits = {{ concurrent = 16, queue = 1000, queue_timeout = "2m" }}
"""


def private(pid):
    """KiB that it has written and nobody else has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


class Calls:
    """So many calls of the sleeping tool, each on a connection and a thread of its own."""

    def __init__(self, port, number, seconds):
        self.statuses = []
        self.threads = [threading.Thread(target=self.one, args=(port, seconds)) for _ in range(number)]
        for thread in self.threads:
            thread.start()

    def one(self, port, seconds):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/v1/servers/demo/tools/sleep", json.dumps({"seconds": seconds}), {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        self.statuses.append(answer.status)

    def done(self):
        for thread in self.threads:
            thread.join()
        assert self.statuses == [200] * len(self.threads), self.statuses


def measure(spawnling, strategy):
    with serving(spawnling, CONFIG.format(command=json.dumps(spawnling), strategy=strategy)) as (pid, port):
        found = []
        # What is needed once is not a call's.
        for _ in range(20):
            Calls(port, 1, 0).done()
        for _ in range(4):
            idle = private(pid)
            # Long enough for each state to be reached on a busy machine; what is looked at is that it was.
            some = Calls(port, SEATS, 8)
            time.sleep(2)
            running = private(pid)
            more = Calls(port, ALL - SEATS, 0.01)
            time.sleep(3)
            waiting = private(pid)
            assert not some.statuses and not more.statuses, "too slow a machine"
            some.done()
            more.done()
            found.append((idle, running, waiting))
            time.sleep(1)
        return found


def main():
    spawnling, *strategies = sys.argv[1:] or sys.exit(__doc__)
    spawnling = program(spawnling)
    print("| strategy | gateway alone | per running call | per waiting call |\n| --- | ---: | ---: | ---: |")
    for strategy in strategies or ["fresh", "shared"]:
        first, *rounds = measure(spawnling, strategy)
        running = statistics.median((running - idle) / SEATS for idle, running, _ in rounds)
        waiting = statistics.median((waiting - running) / (ALL - SEATS) for _, running, waiting in rounds)
        cold = (first[1] - first[0]) / SEATS, (first[2] - first[1]) / (ALL - SEATS)
        print(f"| {strategy}, the first time | {first[0] / 1024:.1f} MiB | {cold[0]:.1f} KiB | {cold[1]:.1f} KiB |")
        print(f"| {strategy}, later | {rounds[-1][0] / 1024:.1f} MiB | {running:.1f} KiB | {waiting:.1f} KiB |")


if __name__ == "__main__":
    main()
