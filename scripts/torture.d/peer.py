"""The same trees and ends against another gateway, one that is started by a command line and spoken to over HTTP.

It serves one tree at a time and does not say when a call has ended, so its trees have 5 s each time. It is put into a
cgroup of its own where that can be done, by which it is ended for good.
"""

import http.client
import os
import random
import shlex
import signal
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import proc
from ends import AFTER_HANG_UP, AT_ONCE, CALL_ENDS, HOW, Findings
from gateway import Home, until

BODY = ('{"jsonrpc":"2.0","id":1,"method":"tools/call",'
        '"params":{"name":"end","arguments":{"how":"{how}","ms":{ms}}}}')
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Connection": "close"}
USER = SimpleNamespace(name="peer", uid=os.getuid())


class Peer:
    """One start of it, before one tree."""

    def __init__(self, home, tree, opts):
        self.opts = opts
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = [str(home.dir / "tree"), tree, f"{home.mark}-{tree}", str(home.dir / f"leash-{tree}"), str(opts.storm)]
        fill = {"{port}": str(self.port), "{tree}": shlex.join(words)}
        command = shlex.split(opts.against)
        for name, value in fill.items():
            command = [word.replace(name, value) for word in command]
        if home.pen.path:
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(home.pen.path / "cgroup.procs"), *command]
        with open(home.dir / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home.dir,
                                            env={**os.environ, "TMPDIR": str(home.dir / "tmp")})
        if not until(self.listens, 60):
            self.end(signal.SIGKILL)
            raise SystemExit(f"torture: it does not listen: {(home.dir / 'log').read_text()[-1000:]}")

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def call(self, how, ms, leave_after=None):
        """What it answers; None if the caller left, or was left."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=leave_after or 10)
        try:
            body = self.opts.body.replace("{how}", how).replace("{ms}", str(ms))
            connection.request("POST", self.opts.path, body, HEADERS)
            return connection.getresponse().read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def end(self, number):
        self.process.send_signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Rounds:
    """All rounds of one tree."""

    def __init__(self, home, tree, opts, found):
        self.home, self.tree, self.opts, self.found = home, tree, opts, found
        self.chance = random.Random(f"{opts.seed}/{tree}")

    def run(self):
        peer = Peer(self.home, self.tree, self.opts)
        for end in (end for end in CALL_ENDS if end != "deadline"):  # it has none
            for begun in range(0, self.opts.rounds if end in self.opts.ends else 0, AT_ONCE):
                self.batch(peer, end, min(AT_ONCE, self.opts.rounds - begun))
        peer.end(signal.SIGKILL)
        for end, number in (("sigterm", signal.SIGTERM), ("sigkill", signal.SIGKILL)):
            for _ in range(self.opts.rounds if end in self.opts.ends else 0):
                self.count("sigkill", 0)
                peer = Peer(self.home, self.tree, self.opts)
                callers = self.callers(peer, "gone", AT_ONCE)
                time.sleep(self.chance.uniform(0.05, 0.5))
                peer.end(number)
                for caller in callers:
                    caller.join()
                self.count(end, 1)

    def callers(self, peer, end, count):
        def one(chance):
            leave = chance.uniform(0.02, 0.3) if end == "gone" else None
            said = peer.call(HOW[end], chance.randint(0, 30), leave)
            if end == "answer" and "yes" not in (said or ""):
                self.found.odd.append(f"{end} x {self.tree}: {said and said[:200]!r}")

        threads = [threading.Thread(target=one, args=(random.Random(self.chance.random()),)) for _ in range(count)]
        for thread in threads:
            thread.start()
        self.found.calls += count
        return threads

    def batch(self, peer, end, count):
        for caller in self.callers(peer, end, count):
            caller.join()
        self.count(end, count)

    def alive(self):
        alive = list(proc.marked(f"{self.home.mark}-{self.tree}"))
        return alive or (["a pulse"] if self.tree == "refork" and self.home.pulse(self.tree) else [])

    def count(self, end, rounds):
        """Waits, counts and sweeps. No rounds: sweeps alone."""
        if rounds:
            until(lambda: not self.alive(), AFTER_HANG_UP)
            alive = self.alive()
            for _ in range(rounds):
                self.found.round(end, self.tree)
            if alive:
                pids = [pid for pid in alive if isinstance(pid, int)] or [os.getpid()]
                self.found.survived(end, self.tree, pids, True)
        self.home.sweep(self.tree)


def run(opts, base):
    """Findings and failures, as of our own gateway."""
    found = Findings("peer", "peer")
    for tree in opts.trees:
        home = Home(base, base, USER, opts.storm)
        try:
            Rounds(home, tree, opts, found).run()
        finally:
            home.remove()
    return [found], []
