"""The twelve ends, put to the ten trees, in one containment and as one user.

Five ends are those of a call, and the gateway lives on: all their rounds are shuffled together, eight calls at once,
each of another tree, so that a mark says whose call a survivor is of. Where the gateway says when the call has ended
(`Spawnling-Wait: end`), whoever is alive right then is a survivor; after a hang-up the gateway has 5 s to have no call of
that tree any more, and then the same holds.
Three ends are those of a helper, and the gateway lives on as well: a warden, a keeper, all keepers that are stopped.
They happen in the midst of calls of all trees at once, and whoever is alive when these have ended is a survivor.
Four ends are those of a gateway, in the midst of such calls. After a stop whoever is alive when the gateway has left is
a survivor; after a SIGKILL he has 2 s.

Where servers are kept for other calls, fewer ends say anything: those by which a server is ended, and those of a gateway.
"""

import os
import random
import signal
import threading
import time

import proc
from gateway import TREES, Gateway, Home, until
from shared import Shared

CALL_ENDS = ("answer", "error", "crash", "deadline", "gone")
STOP_ENDS = ("sigterm", "sigkill", "both", "frozen")
HELPER_ENDS = ("warden", "keeper", "stopped")
ENDS = (*CALL_ENDS, *STOP_ENDS, *HELPER_ENDS)
WORDS = {"answer": "answer", "error": "tool error", "crash": "crash", "deadline": "deadline", "gone": "caller gone",
         "sigterm": "SIGTERM of the gateway", "sigkill": "SIGKILL of the gateway", "warden": "SIGKILL of the warden",
         "keeper": "SIGKILL of a keeper", "stopped": "SIGSTOP of all keepers", "both": "SIGKILL of both",
         "frozen": "SIGKILL, helpers stopped"}
STATUS = {"answer": 200, "error": 424, "crash": 502, "deadline": 504}
HOW = {"answer": "answer", "error": "error", "crash": "crash", "deadline": "hang", "gone": "hang"}
ESCAPING = ("setsid", "double", "refork")
WARDENED = ("cgroup", "strict")
KEPT = ("cgroup", "strict", "namespace", "subreaper")
NEED_WARDENS = ("warden", "both")
NEED_KEEPERS = ("keeper", "stopped", "frozen")
WAIT = ("Spawnling-Wait", "end")
AT_ONCE = 8
PULSE = "somebody who keeps re-forking and is never seen twice"
AFTER_HANG_UP, AFTER_KILL = 5, 2
# How long those who were sent a SIGSTOP are waited for: who is in a system call that cannot be interrupted stops later.
FREEZING = 0.5
# The ends of calls after which nobody of a tree may be there, to which one call at a time is made. After the others somebody is
# kept, and somebody stands by for the next call.
ENDING = {"fresh": CALL_ENDS, "pooled": ("crash", "deadline"), "shared": ("crash",), "prewarmed": ()}
# Who hangs up does so unheard for a moment, or before anybody was asked: of what is kept it cannot be said then whose it is.
ASKED = {"fresh": ENDS, "prewarmed": (*CALL_ENDS, "sigterm", "sigkill"),
         "pooled": ("answer", "error", "crash", "deadline", "sigterm", "sigkill"),
         "shared": (*CALL_ENDS, "sigterm", "sigkill")}
# Of calls whose keeper has been stopped: longer than a busy machine takes for one that has not.
PATIENCE_MS = 1500


def asked(end, containment):
    """Whether there is anybody to whom this end could happen."""
    if end in NEED_WARDENS:
        return containment in WARDENED
    return containment in KEPT or end not in NEED_KEEPERS


def promised(containment, end, tree):
    """Whether nobody may survive: docs/containment.md."""
    if containment == "group":
        return tree not in ESCAPING and end not in ("sigkill", "both", "frozen")
    return True


class Findings:
    """What one job found. Plain data, so that it can go from one process to another."""

    def __init__(self, containment, user, strategy="fresh"):
        self.containment, self.user, self.strategy = containment, user, strategy
        self.name = f"{containment}/{user}" + ("" if strategy == "fresh" else f" {strategy}")
        self.rounds, self.survivors = {}, {}
        self.told, self.litter, self.odd = [], [], []
        self.slowest, self.calls = {}, 0

    def round(self, end, tree):
        self.rounds[end, tree] = self.rounds.get((end, tree), 0) + 1

    def survived(self, end, tree, pids, strict):
        self.survivors[end, tree] = self.survivors.get((end, tree), 0) + len(pids)
        if strict or promised(self.containment, end, tree):
            where = f"{WORDS[end]} x {tree}, {self.name}"
            self.told += [f"{where}: {pid if pid == PULSE else proc.describe(pid)}" for pid in pids]

    def took(self, end, seconds):
        self.slowest[end] = max(self.slowest.get(end, 0), seconds)


class Job:
    """One containment and user, on one host."""

    def __init__(self, containment, user, options, base, programs, strategy="fresh"):
        self.containment, self.user, self.options, self.strategy = containment, user, options, strategy
        self.fresh = strategy == "fresh"
        # Who is kept grows with every call.
        storm = options.storm if self.fresh else min(options.storm, 20)
        self.home = Home(base, programs, user, storm, strategy=strategy)
        self.found = Findings(containment or "group", user.name, strategy)
        self.lock, self.gateway, self.stale = threading.Lock(), None, (set(), set())
        self.forgiven = set()  # what killed gateways left, in `group` or against the rules
        self.shared = {tree: Shared() for tree in TREES}
        self.trees = [tree for tree in TREES if tree in options.trees]

    def run(self):
        wanted = [end for end in self.options.ends if end in ASKED[self.strategy]]
        try:
            calls = [end for end in CALL_ENDS if end in wanted]
            helpers = [end for end in HELPER_ENDS if end in wanted and asked(end, self.found.containment)]
            if calls or helpers:
                self.start()
                if calls:
                    self.end_calls(calls)
                for end in helpers:
                    self.end_helpers(end)
                self.leave()
            stops = [(end, number) for end in STOP_ENDS for number in range(self.options.rounds)
                     if end in wanted and asked(end, self.found.containment)]
            self.random("order").shuffle(stops)
            for end, number in stops:
                self.stop_amid_calls(end, number)
            if any(end != "sigterm" for end, _ in stops):
                self.start()  # whose start sweeps what the last one has left
                self.leave()
        finally:
            if self.gateway and self.gateway.process.poll() is None:
                self.gateway.signal(signal.SIGKILL)
                self.gateway.wait()
            self.home.remove()
        return self.found

    def random(self, *words):
        return random.Random("/".join(map(str, (self.options.seed, self.found.name, *words))))

    def odd(self, what):
        with self.lock:
            self.found.odd.append(f"{self.found.name}: {what}")

    def litter(self, what):
        with self.lock:
            self.found.litter.append(f"{self.found.name}: {what}")

    # A gateway's life

    def start(self):
        """A new gateway; it must have swept what one that was killed before it has left."""
        self.gateway = Gateway(self.home, self.containment)
        for what, (stale, left) in (("scratch directories", (self.stale[0], self.home.scratch)),
                                    ("cgroups", (self.stale[1], self.home.cgroups))):
            stale = stale - self.forgiven
            if self.found.containment != "group" and not until(lambda: not stale & left(), AFTER_HANG_UP):
                self.litter(f"a start left the {what} of a killed gateway: {sorted(stale & left())}")
            self.forgiven |= stale  # said once
        self.stale = (set(), set())

    def leave(self):
        """Stops it, while it is idle."""
        self.home.cgroups()
        said, status = self.gateway.said(), self.gateway.stop()
        self.left(status, said)
        self.count_all("sigterm", rounds=False)

    def left(self, status, said):
        """What must be true of a gateway that was told to stop."""
        if status != 0:
            self.odd(f"a gateway that was told to stop ended with {status}: {said[-500:]}")
        if "lost its owner" in said or "lost their owner" in said:
            self.odd(f"a tree lost its owner: {said[-500:]}")
        if scratch := self.home.scratch() - self.forgiven:
            self.litter(f"scratch directories of a stopped gateway: {sorted(scratch)}")
        self.nobody_helps("stopped")

    def nobody_helps(self, how):
        if not until(lambda: not self.home.helpers(), AFTER_KILL):
            self.litter(f"a helper of a {how} gateway: {[proc.describe(pid) for pid in self.home.helpers()]}")
        if not until(lambda: not self.home.cgroups() - self.forgiven, AFTER_KILL):
            self.litter(f"cgroups of a {how} gateway: {sorted(self.home.cgroups() - self.forgiven)}")

    # Ends of calls

    def warm(self):
        """One good call of each tree at once, and then the gateway's descriptors."""
        def call(tree):
            status, body = self.gateway.call(tree, "answer", 5, [WAIT])
            if status != 200:
                self.odd(f"{tree}, asked while nothing is wrong, was answered with {status}: {body[:300]}")

        each_at_once([threading.Thread(target=call, args=(tree,)) for tree in self.trees])
        return proc.descriptors(self.gateway.pid)

    def end_calls(self, ends):
        before = self.warm()
        items = [(end, tree, number) for end in ends for tree in self.trees for number in range(self.options.rounds)]
        self.random("calls").shuffle(items)
        busy, free = set(), threading.Condition()

        def take():
            with free:
                while items:
                    item = next((item for item in items if item[1] not in busy), None)
                    if item:
                        items.remove(item)
                        busy.add(item[1])
                        return item
                    free.wait()
                return None

        def work():
            while item := take():
                try:
                    self.end_call(*item)
                except Exception as error:  # it must not end the others' work unseen
                    self.odd(f"{item}: {error!r}")
                with free:
                    busy.remove(item[1])
                    free.notify_all()

        each_at_once([threading.Thread(target=work) for _ in range(AT_ONCE)])
        if self.fresh:
            self.idle(before)
        if "lost a keeper" in self.gateway.said():
            self.odd(f"a keeper was lost that nobody had killed: {self.gateway.said()[-500:]}")

    def end_call(self, end, tree, number):
        chance = self.random(end, tree, number)
        if self.strategy == "shared":
            alive = self.end_shared(end, tree, chance)
        elif end == "gone":
            connection = self.gateway.begin(tree, "hang", 0)
            time.sleep(chance.uniform(0, 0.06))
            client = connection.sock.getsockname()[1]
            connection.close()
            alive = self.after_hang_up(tree, client) if end in ENDING[self.strategy] else []
        else:
            headers = [WAIT, ("Spawnling-Timeout", f"{chance.randint(1, 60)}ms")] if end == "deadline" else [WAIT]
            status, body = self.gateway.call(tree, HOW[end], chance.randint(0, 30), headers)
            # Who ran out of time in the queue has asked nobody.
            ended = end in ENDING[self.strategy] and (self.fresh or status != 504 or '"phase":"call"' in body)
            alive = self.alive(tree) if ended else []
            if status != STATUS[end]:
                self.odd(f"{end} x {tree} was answered with {status}: {body[:300]}")
        with self.lock:
            self.found.calls += 1
            self.found.round(end, tree)
            if alive:
                self.found.survived(end, tree, alive, self.options.no_stars)
        if alive and not self.home.sweep(tree):
            self.odd(f"{end} x {tree}: this script cannot kill what is left")

    def end_shared(self, end, tree, chance):
        """The same of a server that one call after the other is put to. Returns who is left of it when it should have ended."""
        known = self.shared[tree]
        if end == "gone":
            self.leave_shared(tree, chance)
            known.hangs()
            return []
        headers = [WAIT, ("Spawnling-Timeout", f"{chance.randint(1, 60)}ms")] if end == "deadline" else [WAIT]
        status, body = self.gateway.call(tree, HOW[end], chance.randint(0, 30), headers)
        backed_off = known.is_backed_off() and status == 502 and "/problems/server-crashed" in body
        if status != STATUS[end] and not backed_off:
            self.odd(f"{end} x {tree} was answered with {status}: {body[:300]}")
        if end == "deadline":
            known.hangs()
        if end != "crash":
            if status in (200, 424):
                known.answers()
            return []
        replaced = known.crashes()
        # One that hung is replaced by the call that finds it so, and goes while that is answered by another.
        patience = AFTER_HANG_UP if replaced else 0
        until(lambda: not self.alive(tree), patience)
        return self.alive(tree)

    def leave_shared(self, tree, chance):
        """Hangs up on a server that was asked, and sees that the gateway has noticed: the next call is another's."""
        connection = self.gateway.begin(tree, "hang", 0, [("Accept", "text/event-stream")])
        try:
            status = connection.getresponse().status  # events begin when the server is there
        except OSError as error:
            status = repr(error)
        if status != 200 and not (status == 502 and self.shared[tree].is_backed_off()):
            self.odd(f"gone x {tree}, whose events begin with {status}")
        time.sleep(chance.uniform(0, 0.06))
        connection.close()
        if not until(lambda: not self.gateway.is_asked(tree), AFTER_HANG_UP):
            self.odd(f"gone x {tree}: its server is in use {AFTER_HANG_UP} s later")

    def alive(self, tree):
        """Who is left of a tree: processes, or the pulse of one that is never seen."""
        alive = list(proc.marked(f"{self.home.mark}-{tree}"))
        return alive or ([PULSE] if tree == "refork" and self.home.pulse(tree) else [])

    def after_hang_up(self, tree, client):
        """Who is left when the gateway has closed its end, from when on a call is counted that has begun, and counts none. That
        nobody is seen for a while says nothing: on a busy machine a server may start later than that."""
        def over():
            return not proc.is_connected(self.gateway.port, client) and not self.gateway.runs(tree)

        if not until(over, AFTER_HANG_UP):
            self.odd(f"gone x {tree}: its call goes on {AFTER_HANG_UP} s later")
        return self.alive(tree)

    def idle(self, before):
        """What must be true of a gateway between two calls."""
        pid = self.gateway.pid
        if not until(lambda: not proc.zombies(pid), AFTER_KILL):
            self.litter(f"zombies below the gateway: {proc.zombies(pid)}")
        if not until(lambda: proc.descriptors(pid) <= before, AFTER_HANG_UP):
            self.litter(f"{before} descriptors of the gateway became {proc.descriptors(pid)}")
        # Whoever starts this script need not see which program a helper runs: it may not be looked into.
        known = {pid, *self.home.helpers(), *self.gateway.wardens(), *self.gateway.keepers()}
        if not until(lambda: not self.home.pen.members() - known, AFTER_KILL):
            left = self.home.pen.members() - known
            if self.found.containment != "group":
                self.litter(f"strangers in the gateway's cgroup: {[proc.describe(pid) for pid in left]}")

    # Ends of helpers and of gateways

    def amid_calls(self, chance, hows, deed, headers=(), heard=None):
        """Calls of all trees at once, again and again, until `deed` is done at a random moment. Who listens hears each
        tree, status and body."""
        over, gateway = threading.Event(), self.gateway

        def caller(tree, chance):
            while not over.is_set():
                status, body = gateway.call(tree, chance.choice(hows), chance.randint(0, 40), [WAIT, *headers])
                with self.lock:
                    self.found.calls += 1
                if heard is not None:
                    heard.append((tree, status, body))
                if status is None or status == 503:
                    return

        callers = [threading.Thread(target=caller, args=(tree, random.Random(chance.random()))) for tree in self.trees]
        for thread in callers:
            thread.start()
        time.sleep(chance.uniform(0.005, 0.25))
        deed()
        over.set()
        return callers

    def stop_amid_calls(self, end, number):
        self.start()
        chance, gateway = self.random(end, number), self.gateway

        def deed():
            victims = [gateway.pid]
            if end == "both":
                wardens = gateway.wardens()
                if not wardens:
                    self.odd("there is no warden")
                victims += chance.sample(wardens, min(1, len(wardens)))
                chance.shuffle(victims)
            if end == "frozen":
                # The newborn are among them, but not who has yet to execute its program: see docs/threat-model.md.
                victims = [*gateway.wardens(), *gateway.keepers()]
                for pid in victims:
                    send(pid, signal.SIGSTOP)
                # A stop that reaches somebody only after the death of the gateway is none of a gateway's helper.
                until(lambda: all((proc.stat(pid) or "Z")[0] in "TZ" for pid in victims), FREEZING)
                victims = [gateway.pid]
            number = signal.SIGTERM if end == "sigterm" else signal.SIGKILL
            self.home.cgroups()
            for pid in victims:
                send(pid, number)

        callers = self.amid_calls(chance, ("answer", "answer", "error", "crash", "hang"), deed)
        status = gateway.wait()
        if end == "sigterm":
            self.count_all(end)
            self.left(status, gateway.said())
        else:
            self.after_kill(end)
        for thread in callers:
            thread.join()

    def after_kill(self, end):
        began = time.monotonic()
        held = self.found.containment != "group"

        def over():
            # A helper that is still there may yet give birth, and so may a child that has not executed its program by now: nothing
            # is over before they have gone.
            return not (self.home.helpers() or held and (proc.marked(self.home.mark) or self.home.pulse("refork")))

        until(over, AFTER_KILL)
        self.found.took(end, time.monotonic() - began)
        self.count_all(end)
        if self.found.containment != "group":
            self.nobody_helps("killed")
        self.stale = (self.home.scratch(), self.home.cgroups())

    def count_all(self, end, rounds=True):
        alive = proc.marked(self.home.mark)
        for tree in self.trees:
            if rounds:
                self.found.round(end, tree)
            mine = [pid for pid, mark in alive.items() if mark == f"{self.home.mark}-{tree}"]
            if mine or tree == "refork":
                mine = mine or self.alive(tree)
            if mine:
                alive.update(dict.fromkeys(mine))
                self.found.survived(end, tree, mine, self.options.no_stars)
        if alive:
            if not self.home.sweep():
                self.odd(f"{end}: this script cannot kill what is left")
            for tree in TREES:
                self.home.hold(tree)

    def end_helpers(self, end):
        before = self.warm()
        deeds = {"warden": self.kill_warden, "keeper": self.kill_keeper, "stopped": self.stop_keepers}
        for number in range(self.options.rounds):
            deeds[end](self.random(end, number))
            self.count_all(end)
        # Whatever it was, it harms nobody afterwards.
        self.warm()
        self.idle(before)

    def amid_good_calls(self, chance, deed, hows=("answer",), headers=(), bad=()):
        """Calls, of which all may be answered well, and so many may be answered with each bad status. It is over when
        they are."""
        heard = []
        for thread in self.amid_calls(chance, hows, deed, headers, heard):
            thread.join()
        left = dict(bad)
        for tree, status, body in heard:
            left[status] = left.get(status, 0) - 1
            if status != 200 and left[status] < 0:
                self.odd(f"{tree} was answered with {status}, though its helper was not harmed: {body[:300]}")

    def kill_warden(self, chance):
        gateway = self.gateway
        before = gateway.wardens()
        if not before:
            self.odd("there is no warden")
            return
        victim = chance.choice(before)

        def replaced():
            now = gateway.wardens()
            return victim not in now and len(now) >= len(before)

        def deed():
            send(victim, signal.SIGKILL)
            began = time.monotonic()
            if not until(replaced, AFTER_KILL):
                self.odd(f"a warden that was killed has no successor: {gateway.wardens()}")
            self.found.took("warden", time.monotonic() - began)

        self.amid_good_calls(chance, deed)

    def kill_keeper(self, chance):
        """One, busy or idle, its guard, or the init of a namespace below it: at most one call may fail, with its server."""
        def deed():
            keepers = self.gateway.keepers()
            if not keepers:
                self.odd("there is no keeper")
            for victim in keepers and [chance.choice(keepers)]:
                send(victim, signal.SIGKILL)

        self.amid_good_calls(chance, deed, bad={502: 1})

    def stop_keepers(self, chance):
        """All of them, busy and idle, and the inits below them. Calls may run out of time, and that is all."""
        def deed():
            for victim in self.gateway.keepers():
                send(victim, signal.SIGSTOP)

        # Each of those who call at once may meet a keeper that is stopped.
        headers = [("Spawnling-Timeout", f"{PATIENCE_MS}ms")]
        self.amid_good_calls(chance, deed, ("answer", "hang"), headers, {504: 10_000})


def each_at_once(threads):
    for each in (*(thread.start for thread in threads), *(thread.join for thread in threads)):
        each()


def send(pid, number):
    """Sends it; whoever is gone already needs none."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
