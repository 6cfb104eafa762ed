#!/usr/bin/env python3
"""Prints the reports of scripts/bench-peers as the tables of docs/benchmarks.md, or puts them there.

Usage: scripts/bench.d/tables.py [--write FILE] [--only TABLE,...] [DIR]      default DIR: target/bench

    TABLE    native, servers (one table of latencies, one of what they cost), goals, queue
    --write  replaces what stands in FILE between `<!-- tables.py TABLE -->` and `<!-- end of TABLE -->`; what the words
             around it say of the run (rounds, machine) is for you to check

A table whose reports are not all there is left alone, which is said.

Python's standard library only.
"""

import argparse
import json
import re
import sys
from pathlib import Path

NAMES = {"gunicorn": "Flask under gunicorn", "constant-server": "hyper, constant answer"}
SERVERS = {"time": "time", "everything": "everything", "browser": "playwright"}


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


def row(cells):
    return f"| {' | '.join(cells)} |"


class Figures:
    """The lines of one report, by target and load, in the report's order."""

    def __init__(self, report):
        self.lines = {(NAMES.get(line["target"], line["target"]), load_name(line)): line for line in report["results"]}
        self.targets = list(dict.fromkeys(target for target, _ in self.lines))
        self.loads = list(dict.fromkeys(load for _, load in self.lines))

    def p50s(self, target, load):
        return (self.lines[target, load]["latency_ms"] or {}).get("p50")

    def p50(self, target, load):
        return self.p50s(target, load)["median"]

    def rate(self, target, load):
        return self.lines[target, load]["rate_per_s"]["median"]

    def idle(self, target):
        return next(line["idle_memory_bytes"] for (name, _), line in self.lines.items() if name == target)

    def failed(self):
        """A sentence on calls that failed: a table of latencies does not show them."""
        failed = [f"{target}, {load}: {line['errors']}" for (target, load), line in self.lines.items() if line["errors"]]
        return [f"\nCalls that failed: {'; '.join(failed)}."] if failed else []


def native(figures):
    head = ["target", "load", "p50 ms (rounds)", "p99 ms", "calls/s", "standby hits", "CPU ms/call", "MiB idle", "MiB most"]
    yield row(head)
    yield "| --- | --- |" + " ---: |" * (len(head) - 2)
    for (target, load), line in figures["native"].lines.items():
        # The two rates say the same.
        if load == "50/s":
            continue
        latency, rate = line["latency_ms"] or {}, line["rate_per_s"] or {}
        hits = f"{line['standby_hits'] * 100:.0f} %" if target == "prewarmed" else ""
        yield row([target, load, spread(latency.get("p50")), short((latency.get("p99") or {}).get("median")),
                   short(rate.get("median")), hits, short(line["cpu_ms_per_call"]), mib(line["idle_memory_bytes"]),
                   mib(line["memory_bytes"])])
    yield from figures["native"].failed()


def servers(figures):
    chosen = {title: figures[name] for name, title in SERVERS.items()}
    targets = next(iter(chosen.values())).targets
    yield row(["p50 ms (rounds)", *(f"{title}, {load}" for title, found in chosen.items() for load in found.loads)])
    yield "| --- |" + " ---: |" * sum(len(found.loads) for found in chosen.values())
    for target in targets:
        yield row([target, *(spread(found.p50s(target, load)) for found in chosen.values() for load in found.loads)])
    yield ""
    yield row(["with 1 caller", *(f"{title}, {what}" for title in chosen for what in ("calls", "CPU ms/call", "MiB most"))])
    yield "| --- |" + " ---: |" * (3 * len(chosen))
    for target in targets:
        lines = [found.lines[target, "1 caller"] for found in chosen.values()]
        yield row([target, *(cell for line in lines
                             for cell in (short(line["calls"]), short(line["cpu_ms_per_call"]), mib(line["memory_bytes"])))])
    for found in chosen.values():
        yield from found.failed()


def goals(figures):
    native, time, queue = (figures[name] for name in ("native", "time", "queue"))
    by = {load.split()[0]: load for load in ("1 caller", "8 callers", "32 callers")}
    rows = [
        ("prewarmed / shared, p50, native server, 20 calls/s", "<=", "1.3 x", 1.3,
         {"": native.p50("prewarmed", "20/s") / native.p50("shared", "20/s")}),
        ("prewarmed / one cold call, p50, `mcp-server-time`, 1/s", "<=", "1/40", 1 / 40,
         {"": time.p50("prewarmed", "1/s") / time.p50("bare, one per call", "1/s")}),
        ("fresh / supergateway, p50 at 1 caller", "<=", "1/4", 1 / 4,
         {"": native.p50("fresh", "1 caller") / native.p50("supergateway", "1 caller")}),
        ("fresh / supergateway, rate at 8 callers", ">=", "6 x", 6,
         {"": native.rate("fresh", "8 callers") / native.rate("supergateway", "8 callers")}),
        ("fresh / supergateway, memory before any call", "<=", "1/10", 1 / 10, {"": native.idle("fresh") / native.idle("supergateway")}),
        ("shared / mcpo, p50 at 1, 8 and 32 callers", "<=", "1/6", 1 / 6,
         {callers: native.p50("shared", load) / native.p50("mcpo", load) for callers, load in by.items()}),
        ("shared / hyper with a constant answer, rate, 32 callers", ">=", "0.8 x", 0.8,
         {"": native.rate("shared", "32 callers") / native.rate("hyper, constant answer", "32 callers")}),
        ("256 callers with 16 seats, rate / that of 16 callers", ">=", "0.95 x", 0.95,
         {"": queue.rate("fresh", "256 callers") / queue.rate("fresh", "16 callers")}),
    ]
    yield "| goal | measured | wanted | |\n| --- | ---: | --- | --- |"
    for what, sign, wanted, bound, found in rows:
        missed = [name for name, figure in found.items() if (figure > bound if sign == "<=" else figure < bound)]
        verdict = "met" if not missed else "**missed**" if len(missed) == len(found) else f"met but at {' and '.join(missed)}"
        yield row([what, f"{', '.join(f'{figure:.2g}' if figure < 1 else f'{figure:.3g}' for figure in found.values())} x",
                   f"{sign} {wanted}", verdict])
    yield row(["the least served of those 256 / their mean", f"{queue.lines['fresh', '256 callers']['least_served']['median']:.2g} x", "fair", ""])


def queue(figures):
    yield "| target | load | p50 ms (rounds) | calls/s |\n| --- | --- | ---: | ---: |"
    for target, load in (("fresh", "16 callers"), ("fresh", "256 callers"), ("bare, one per call", "16 callers"),
                         ("prewarmed", "20/s"), ("shared", "20/s")):
        found = figures["queue"]
        yield row([f"{target}, 16 seats" if load == "256 callers" else target, load, spread(found.p50s(target, load)),
                   short(found.rate(target, load))])
    yield from figures["queue"].failed()


# What each is made of.
TABLES = {native: ("native",), servers: tuple(SERVERS), goals: ("native", "time", "queue"), queue: ("queue",)}


def put(text, name, table):
    """The text with this table in its place."""
    begin, end = f"<!-- tables.py {name} -->\n", f"<!-- end of {name} -->"
    changed, places = re.subn(f"(?s){re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{table}\n\n{end}", text)
    if places != 1:
        sys.exit(f"tables: {places} places for {name} instead of one")
    return changed


def main():
    words = argparse.ArgumentParser(usage=__doc__)
    words.add_argument("--write", type=Path)
    words.add_argument("--only", type=lambda names: names.split(","), default=[table.__name__ for table in TABLES])
    words.add_argument("dir", nargs="?", type=Path, default=Path("target/bench"))
    asked = words.parse_args()
    unknown = set(asked.only) - {table.__name__ for table in TABLES}
    if unknown:
        sys.exit(f"tables: there is no {', '.join(sorted(unknown))}")
    for table, needed in TABLES.items():
        name = table.__name__
        files = [asked.dir / report / "report.json" for report in needed]
        missing = [str(file) for file in files if not file.exists()]
        if name not in asked.only:
            continue
        if missing:
            print(f"tables: {name} is left alone without {', '.join(missing)}", file=sys.stderr)
            continue
        figures = {report: Figures(json.loads(file.read_text())) for report, file in zip(needed, files)}
        text = "\n".join(table(figures))
        if asked.write:
            asked.write.write_text(put(asked.write.read_text(), name, text))
        else:
            print(f"\n### {name}\n\n{text}")


if __name__ == "__main__":
    main()
