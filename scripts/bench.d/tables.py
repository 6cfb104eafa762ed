#!/usr/bin/env python3
"""Prints the reports of scripts/bench-peers as Markdown: a table for each run, and one of what was aimed at.

Usage: scripts/bench.d/tables.py [DIR]      default: target/bench

Python's standard library only.
"""

import json
import sys
from pathlib import Path


def load_name(line):
    if line["load"] == "open":
        return f"{line['rate']:g}/s"
    return "1 caller" if line["callers"] == 1 else f"{line['callers']} callers"


def short(number):
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def mib(number):
    return short(number / 1048576) if number else ""


def spread(found):
    return f"{short(found['median'])} ({short(found['low'])} to {short(found['high'])})" if found else ""


def table(name, report):
    about = report["about"]
    print(f"\n### {name}: `{about['tool']}`, {about['rounds']} rounds of {about['time_ms'] / 1000:g} s for each load\n")
    print("| target | load | p50 ms (rounds) | p99 ms | calls/s | standby hits | seat ms | CPU ms/call | MiB idle | MiB most | errors |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for line in report["results"]:
        latency = line["latency_ms"] or {}
        hits = f"{line['standby_hits'] * 100:.0f} %" if line["target"] == "prewarmed" else ""
        rate = (line["rate_per_s"] or {}).get("median")
        cells = [line["target"], load_name(line), spread(latency.get("p50")), short((latency.get("p99") or {}).get("median")),
                 short(rate), hits, short(line["seat_ms"]), short(line["cpu_ms_per_call"]), mib(line["idle_memory_bytes"]),
                 mib(line["memory_bytes"]), str(line["errors"])]
        print(f"| {' | '.join(cells)} |")


class Figures:
    def __init__(self, report):
        self.lines = {(line["target"], load_name(line)): line for line in report["results"]} if report else {}

    def p50(self, target, load):
        return self.lines[target, load]["latency_ms"]["p50"]["median"]

    def rate(self, target, load):
        return self.lines[target, load]["rate_per_s"]["median"]

    def idle(self, target):
        return next(line["idle_memory_bytes"] for (name, _), line in self.lines.items() if name == target)


def goals(reports):
    native, time, queue = (Figures(reports.get(name)) for name in ("native", "time", "queue"))
    rows = [
        ("prewarmed / shared, p50, native server at 20/s", lambda: native.p50("prewarmed", "20/s") / native.p50("shared", "20/s"), 1.3, True),
        ("prewarmed / one cold call, p50, `mcp-server-time` at 1/s",
         lambda: time.p50("prewarmed", "1/s") / time.p50("bare, one per call", "1/s"), 1 / 40, True),
        ("fresh / supergateway, p50 at 1 caller", lambda: native.p50("fresh", "1 caller") / native.p50("supergateway", "1 caller"), 1 / 4, True),
        ("fresh / supergateway, rate at 8 callers", lambda: native.rate("fresh", "8 callers") / native.rate("supergateway", "8 callers"), 6, False),
        ("fresh / supergateway, memory when idle", lambda: native.idle("fresh") / native.idle("supergateway"), 1 / 10, True),
        ("shared / mcpo, p50 at 1 caller", lambda: native.p50("shared", "1 caller") / native.p50("mcpo", "1 caller"), 1 / 6, True),
        ("shared / constant answer, rate at 32 callers",
         lambda: native.rate("shared", "32 callers") / native.rate("constant-server", "32 callers"), 0.8, False),
        *((f"{name}, 256 callers / 16 callers, rate with 16 seats",
           lambda name=name: queue.rate(name, "256 callers") / queue.rate(name, "16 callers"), 0.95, False)
          for name in ("fresh", "prewarmed", "pooled", "shared")),
    ]
    print("\n### What was aimed at\n\n| goal | measured | wanted | |\n| --- | ---: | --- | --- |")
    for what, figure, wanted, at_most in rows:
        try:
            found = figure()
        except (KeyError, StopIteration):
            continue
        met = found <= wanted if at_most else found >= wanted
        print(f"| {what} | {found:.3g} x | {'<=' if at_most else '>='} {wanted:.3g} x | {'met' if met else '**missed**'} |")
    for name in ("fresh", "prewarmed", "pooled", "shared"):
        for load in ("16 callers", "256 callers"):
            if (name, load) in queue.lines:
                print(f"| {name}, {load}: least served / mean | {spread(queue.lines[name, load]['least_served'])} | | |")


def main():
    top = Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench")
    reports = {name: json.loads((top / name / "report.json").read_text())
               for name in ("native", "time", "everything", "browser", "queue") if (top / name / "report.json").exists()}
    for name, report in reports.items():
        table(name, report)
    goals(reports)


if __name__ == "__main__":
    main()
