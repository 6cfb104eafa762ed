#!/usr/bin/env python3
"""How long the end of a tree takes: from the decision to kill it to the proof that nothing of it is left, as a Markdown table.

Usage: scripts/bench.d/ends.py SPAWNLING [CONTAINMENT...]      default: cgroup strict namespace subreaper group

A server with three children, killed without being asked (`teardown = "kill"`). 300 calls one after the other, after 30 that do
not count; what is shown is `end-ms` of their receipts, the removal of the scratch directory included. Python's standard library only.
"""

import http.client
import json
import re
import statistics
import sys

from gateway import program, serving

CALLS, WARM_UP = 300, 30
CONFIG = """containment = "{containment}"
[servers.demo]
command = "sh"
args = ["-c", {script}]
teardown = "kill"
"""
CHILDREN = "sleep 1000 & sleep 1000 & sleep 1000 & "


def ends(spawnling, containment):
    """Milliseconds of each end."""
    script = json.dumps(f"{CHILDREN} exec '{spawnling}' demo")
    with serving(spawnling, CONFIG.format(containment=containment, script=script)) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        found = []
        for _ in range(WARM_UP + CALLS):
            headers = {"content-type": "application/json", "spawnling-wait": "end"}
            connection.request("POST", "/v1/servers/demo/tools/echo", '{"message":"x"}', headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            receipt = answer.getheader("spawnling-receipt")
            assert f"containment={containment}" in receipt, receipt
            found.append(float(re.search(r"end-ms=([0-9.]+)", receipt)[1]))
        return found[WARM_UP:]


def main():
    spawnling, *containments = sys.argv[1:] or sys.exit(__doc__)
    spawnling = program(spawnling)
    print("| containment | p50 ms | p90 ms | p99 ms |\n| --- | ---: | ---: | ---: |")
    for containment in containments or ["cgroup", "strict", "namespace", "subreaper", "group"]:
        cuts = statistics.quantiles(ends(spawnling, containment), n=100)
        print(f"| `{containment}` | {cuts[49]:.2f} | {cuts[89]:.2f} | {cuts[98]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
