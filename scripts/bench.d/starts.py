#!/usr/bin/env python3
"""How many servers should start at once? Calls that all come at the same moment, under several values of `starts`.

Usage: scripts/bench.d/starts.py SPAWNLING [ROUNDS [LIMIT,LIMIT...]]      default: 2 rounds of 1,2,4,8,64,auto

A limit `auto` is the gateway's own, where none is configured.

    burn    16 calls of a server whose start is 300 ms of processor time
    mixed   24 calls of one that waits 300 ms for something else, and then needs 150 ms of processor time
    wait    32 calls of one that waits 300 ms, and needs next to nothing

Prints a line for each batch as it is done, then a Markdown table of medians over the rounds, which go through the limits up and
down in turn. Seconds from the moment at which all calls were made. Python's standard library only.
"""

import http.client
import json
import statistics
import sys
import threading
import time

from gateway import program, serving

CONFIG = """concurrent = 64
{starts}
[servers.demo]
command = {command}
args = {args}
protocol = "legacy"
open_deadline = "5m"
deadline = "5m"
limits = {{ concurrent = 64, queue = 64 }}
"""


def kinds(spawnling):
    late = ["sh", "-c", 'sleep 0.3; exec "$0" "$@"', spawnling, "demo"]
    return {"burn": (16, [spawnling, "demo", "--startup", "300ms"]), "mixed": (24, [*late, "--startup", "150ms"]), "wait": (32, late)}


def batch(spawnling, starts, calls, command):
    """Sorted seconds of all calls of one batch."""
    config = CONFIG.format(starts="" if starts == "auto" else f"starts = {starts}", command=json.dumps(command[0]), args=json.dumps(command[1:]))
    with serving(spawnling, config) as (_, port):
        times = []

        def one():
            start = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            connection.request("POST", "/v1/servers/demo/tools/echo", '{"message":"x"}', {"content-type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            times.append(time.monotonic() - start)

        threads = [threading.Thread(target=one) for _ in range(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(times) == calls
        return sorted(times)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    spawnling, rounds = program(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2
    limits = (sys.argv[3] if len(sys.argv) > 3 else "1,2,4,8,64,auto").split(",")
    found = {}
    for number in range(rounds):
        for kind, (calls, command) in kinds(spawnling).items():
            for limit in limits if number % 2 == 0 else limits[::-1]:
                times = batch(spawnling, limit, calls, command)
                figures = times[0], statistics.median(times), statistics.mean(times), times[-1]
                found.setdefault((kind, limit), []).append(figures)
                print(kind, limit, *(f"{figure:.2f}" for figure in figures), file=sys.stderr, flush=True)
    print("| start | at once | first s | median s | mean s | last s |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for (kind, limit), figures in found.items():
        cells = [f"{statistics.median(figure[place] for figure in figures):.2f}" for place in range(4)]
        print(f"| {kind} | {limit} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
