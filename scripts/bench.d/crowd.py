#!/usr/bin/env python3
"""How long the ends of many trees take that never stop making sessions, as a Markdown table.

Usage: scripts/bench.d/crowd.py SPAWNLING... [--trees N] [--containment NAME]      default: 40 trees, subreaper

As many calls at once, each of a server one of whose processes starts its successor in a new session and exits, for ever; all of them end
by their deadline at the same moment. 3 rounds, the programs in turn; what is shown is `end-ms` of the receipts of all. Where the kernel shares processors out
by sessions (/proc/sys/kernel/sched_autogroup_enabled) such trees get nearly all of them. Needs cc; Python's standard
library only.
"""

import argparse
import http.client
import re
import statistics
import subprocess
import tempfile
import threading
from pathlib import Path

from gateway import program, serving

ROUNDS = 3
SOURCE = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "tree.c"
CONFIG = """containment = "{containment}"
concurrent = {trees}
starts = {trees}
[servers.tree]
command = "{directory}/tree"
args = ["refork", "crowd", "{directory}/leash"]
protocol = "legacy"
validate = "off"
eof_grace = "20ms"
term_grace = "20ms"
limits = {{ concurrent = {trees}, queue = {trees} }}
"""


def call(port, found):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"content-type": "application/json", "spawnling-wait": "end"}
    connection.request("POST", "/v1/servers/tree/tools/end?timeout=4s", '{"how":"hang"}', headers)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 504, body
    found.append(float(re.search(r"end-ms=([0-9.]+)", answer.getheader("spawnling-receipt"))[1]))


def ends(spawnling, directory, options):
    """Milliseconds of each end, of one round."""
    config = CONFIG.format(directory=directory, trees=options.trees, containment=options.containment)
    (directory / "leash").touch()
    found = []
    try:
        with serving(spawnling, config) as (_, port):
            callers = [threading.Thread(target=call, args=(port, found)) for _ in range(options.trees)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
    finally:
        # Whoever were left would end without it.
        (directory / "leash").unlink()
    assert len(found) == options.trees, f"{options.trees - len(found)} calls failed"
    return found


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("spawnling", nargs="+")
    parser.add_argument("--trees", type=int, default=40)
    parser.add_argument("--containment", default="subreaper")
    options = parser.parse_args()
    found = {spawnling: [] for spawnling in options.spawnling}
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["cc", "-O2", "-o", f"{directory}/tree", SOURCE], check=True)
        for _ in range(ROUNDS):
            for spawnling, times in found.items():
                times += ends(program(spawnling), Path(directory), options)
    print("| program | p50 ms | most ms |\n| --- | ---: | ---: |")
    for spawnling, times in found.items():
        print(f"| `{spawnling}` | {statistics.median(times):.0f} | {max(times):.0f} |")


if __name__ == "__main__":
    main()
