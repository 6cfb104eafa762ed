#!/usr/bin/env python3
"""What a gateway leaves running, for others to reap, and lying about, around a call; as a Markdown table.

Usage: scripts/bench.d/left.py SPAWNLING --tool NAME --arguments JSON [--against COMMAND --path PATH --body JSON --expect TEXT]...
                               -- SERVER...

The words are those of `spawnling bench`. Each gateway runs alone, with a TMPDIR of its own, below this process, which adopts
whatever loses its parent (`PR_SET_CHILD_SUBREAPER`), so that nothing escapes the count; in the end all of it is killed. Counted are the
processes of the server and below it; the gateway's own, its workers and keepers, only where it is about its end.

    ready -> one call -> at rest -> five calls, one after the other     each until there are no more processes than at rest
          -> a caller who leaves halfway                                likewise
          -> SIGTERM; and started again, in the middle of a call SIGKILL

Python's standard library only, on Linux.
"""

import argparse
import ctypes
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from gateway import program

CALLS = 5
PATIENCE = 20
PR_SET_CHILD_SUBREAPER = 36


def stats():
    """The parent and the state of every process."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            state, parent = Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        found[int(pid)] = (int(parent), state)
    return found


class Around:
    """A gateway, what lives below it, and what was below it once."""

    def __init__(self, start, directory):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        words = [word.replace("{port}", str(self.port)) for word in start]
        self.start, self.orphans = start, 0
        with open(Path(directory).parent / "log", "ab") as log:
            self.process = subprocess.Popen(words, env=os.environ | {"TMPDIR": str(directory)}, start_new_session=True,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if self.until(self.listens) is None:
            sys.exit(f"left: {words[0]} does not listen on its port")
        self.rest = self.settled()

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def living(self):
        """Processes below this one, the gateway included. What has ended as an orphan is reaped, and counted."""
        found, below, new = stats(), set(), {os.getpid()}
        for pid, (parent, state) in found.items():
            if parent == os.getpid() and state == "Z" and pid != self.process.pid:
                os.waitpid(pid, 0)
                self.orphans += 1
        while new:
            new = {pid for pid, (parent, _) in found.items() if parent in new}
            below |= new
        return {pid for pid in below if found[pid][1] != "Z"}

    def servers(self):
        """How many of them are not the gateway's own. Those run its program, under node or python its script."""
        theirs = 0
        for pid in self.living():
            try:
                runs = os.readlink(f"/proc/{pid}/exe"), Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue
            theirs += runs[0] != self.start[0] and self.start[0] not in runs[1][:2]
        return theirs

    def settled(self):
        """The number of the server's processes once it has been the same for two seconds: a browser comes and goes."""
        since, number = time.monotonic(), -1
        while time.monotonic() < since + 2:
            now = self.servers()
            if now != number:
                since, number = time.monotonic(), now
            time.sleep(0.05)
        return number

    def at_rest(self):
        """Seconds until there are no more of them than at rest; None if they stay."""
        return self.until(lambda: self.servers() <= self.rest)

    @staticmethod
    def until(holds):
        """Seconds until it holds; None if it does not for long. Twice: a child whose parent goes while we look may be missed."""
        start = time.monotonic()
        while not (holds() and holds()):
            if time.monotonic() > start + PATIENCE:
                return None
            time.sleep(0.02)
        return time.monotonic() - start

    def end(self, number):
        """Sends a signal: when all has gone, the gateway too, or how many processes are left after a long while."""
        self.process.send_signal(number)
        gone = self.until(lambda: not self.living())
        return f"{len(self.living())} left" if gone is None else seconds(gone)

    def clear(self):
        """Kills what is left, and waits for it."""
        while left := self.living():
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(0.05)
        self.process.wait()
        self.living()


def ask(around, target):
    """A call whose answer is still to come."""
    connection = HTTPConnection("127.0.0.1", around.port, timeout=120)
    connection.request("POST", target["path"], target["body"],
                       {"content-type": "application/json", "accept": target["accept"]})
    return connection


def call(around, target):
    """Makes one: the most processes of the server that were seen meanwhile, and how many there are with its answer."""
    asked, found, seen = ask(around, target), [], [0]
    answer = threading.Thread(target=lambda: found.append(asked.getresponse().read().decode(errors="replace")))
    answer.start()
    while answer.is_alive():
        seen.append(around.servers())
    now = around.servers()
    asked.close()
    if not found or target["expect"] not in found[0]:
        sys.exit(f"left: {target['name']}: an answer without {target['expect']!r}: {found}")
    return max(seen), now


def halfway(around, target, most):
    """A call that has more than half of its processes by now."""
    asked = ask(around, target)
    around.until(lambda: around.servers() > most / 2)
    return asked


def seconds(found):
    return "stay" if found is None else f"{found:.2g} s"


def row(target, top):
    # A short name: Chromium makes sockets below it, whose paths have 107 bytes at most (`unix(7)`).
    directory = Path(top, "t")
    directory.mkdir()
    around = Around(target["start"], directory)
    try:
        ready = around.rest
        call(around, target)
        around.rest, around.orphans = around.settled(), 0
        seen, gone = [], []
        for _ in range(CALLS):
            seen.append(call(around, target))
            gone.append(around.at_rest())
        orphans, rest = around.orphans / CALLS, around.rest
        most, with_answer = max(most for most, _ in seen), max(now for _, now in seen)
        halfway(around, target, most).sock.close()
        after_caller = seconds(around.at_rest())
        after_term = around.end(signal.SIGTERM)
    finally:
        around.clear()
    entries = len(list(directory.iterdir()))
    around = Around(target["start"], directory)
    try:
        asked = halfway(around, target, most)
        after_kill = around.end(signal.SIGKILL)
        asked.close()
    finally:
        around.clear()
    gone = None if None in gone else statistics.median(gone)
    return [target["name"], str(ready), str(most), str(with_answer), str(rest), seconds(gone), f"{orphans:.2g}", after_caller,
            after_term, after_kill, str(entries)]


def targets(asked, top):
    """Ours first, then the others in the order in which they were named."""
    for strategy in ("fresh", "shared"):
        file = Path(top, f"{strategy}.json")
        ours = {"strategy": strategy, "deadline": "2m"}
        config = {"mcpServers": {"default": {"command": asked.server[0], "args": asked.server[1:], "spawnling": ours}}}
        file.write_text(json.dumps(config))
        yield {"name": f"`{strategy}`", "path": f"/v1/servers/default/tools/{asked.tool}", "body": asked.arguments,
               "expect": asked.expect[0] if asked.expect else "",
               "accept": "application/json",
               "start": [program(asked.spawnling), "serve", "--listen", "127.0.0.1:{port}", "--config", str(file)]}
    line = shlex.join(asked.server)
    for command, path, body, expect in zip(asked.against, asked.path, asked.body, asked.expect, strict=True):
        words = [[*asked.server] if word == "{server}" else [word.replace("{server}", line).replace("{quoted-server}", line)]
                 for word in shlex.split(command)]
        start = sum(words, [])
        name = {"gunicorn": "Flask under gunicorn"}.get(Path(start[0]).name, Path(start[0]).name)
        yield {"name": name, "path": path, "body": body, "expect": expect, "start": start,
               "accept": "application/json, text/event-stream"}


def main():
    words = argparse.ArgumentParser(usage=__doc__)
    words.add_argument("spawnling")
    words.add_argument("--tool", required=True)
    words.add_argument("--arguments", required=True)
    for name in ("--against", "--path", "--body", "--expect"):
        words.add_argument(name, action="append", default=[])
    words.add_argument("server", nargs="+")
    asked = words.parse_args()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("left: cannot adopt orphans")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print("\n| gateway | ready | in a call | at its answer | at rest | at rest after | orphans per call | caller leaves | SIGTERM "
          "| SIGKILL | files |\n| --- |" + " ---: |" * 10)
    with tempfile.TemporaryDirectory(prefix="left-") as top:
        for target in targets(asked, top):
            with tempfile.TemporaryDirectory(dir=top, prefix="") as own:
                print(f"| {' | '.join(row(target, own))} |", flush=True)


if __name__ == "__main__":
    main()
