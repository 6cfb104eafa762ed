"""A gateway under torture: its own directory, its own names for its programs, its own pen; and one call of it.

The directory holds hard links to `spawnling` and to the tree, made for this gateway alone: so whoever runs
DIR/spawnling, by whatever name and with whatever environment, is this gateway, its warden or its shim.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from glob import glob
from pathlib import Path

import proc
from pen import Pen

TREES = ("plain", "child", "setsid", "double", "early", "storm", "stubborn", "pipes", "refork", "readonly")

# Short graces: what is tortured is the death, not the patience. `stubborn` takes both of them.
SERVER = """
[servers.{name}]
command = "{dir}/tree"
args = ["{kind}", "{mark}", "{dir}/leash-{kind}", "{storm}"]
env = {{ SPAWNLING_TORTURE = "{mark}" }}
protocol = "legacy"
validate = "off"
eof_grace = "{eof}ms"
term_grace = "20ms"
deadline = "20s"
limits = {{ concurrent = 16, queue = 64 }}
{strategy}
"""

# Few calls for each server: a tree grows in every call.
STRATEGIES = {
    "fresh": "",
    "prewarmed": 'strategy = "prewarmed"\nstandby = { min = 1, max = 2 }',
    "pooled": 'strategy = "pooled"\npool = { uses = 4 }',
    "shared": 'strategy = "shared"',
}


def until(condition, seconds):
    """Polls until it holds; False if it does not in time."""
    give_up = time.monotonic() + seconds
    pause = 0.001
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return True


class Refused(Exception):
    """The gateway did not start."""


class Home:
    """What several gateways use one after the other: a directory, a pen, a mark. `more` are further servers."""

    def __init__(self, base, programs, user, storm, more="", strategy="fresh"):
        self.mark = uuid.uuid4().hex[:12]
        self.user, self.dir, self.seen = user, Path(base, self.mark), set()
        self.dir.mkdir()
        for name in ("tmp", "cache"):
            (self.dir / name).mkdir()
        for name in ("spawnling", "tree"):
            os.link(Path(programs, name), self.dir / name)
        for kind in TREES:
            self.hold(kind)
        servers = (
            SERVER.format(name=kind, kind=kind, mark=f"{self.mark}-{kind}", dir=self.dir, storm=storm, eof=20,
                          strategy=STRATEGIES[strategy])
            for kind in TREES
        )
        more = more.replace("{dir}", str(self.dir)).replace("{mark}", self.mark)
        head = 'listen = ["127.0.0.1:0"]\ndrain = "50ms"\n'
        (self.dir / "torture.toml").write_text(head + "".join(servers) + more)
        if user.uid != os.getuid():
            for path in (self.dir, *self.dir.iterdir()):
                if path.name not in ("spawnling", "tree"):
                    shutil.chown(path, user.uid, user.uid)
        self.program = str((self.dir / "spawnling").resolve())
        self.pen = Pen(self.mark, user.uid)

    def hold(self, kind):
        leash = self.dir / f"leash-{kind}"
        leash.touch()
        leash.chmod(0o666)  # whoever can write to it may touch it, utimensat(2)

    def let_go(self, kind):
        (self.dir / f"leash-{kind}").unlink(missing_ok=True)

    def pulse(self, kind):
        """Whether somebody keeps touching the leash: the one who is always another process, and so hard to list."""
        before = (self.dir / f"leash-{kind}").stat().st_mtime_ns
        time.sleep(0.02)
        return (self.dir / f"leash-{kind}").stat().st_mtime_ns != before

    def helpers(self):
        """Processes that run the gateway's program: wardens, shims, and the gateway itself."""
        return proc.running(self.program)

    def scratch(self):
        return {str(path.relative_to(self.dir)) for path in (self.dir / "tmp").glob("*")}

    def cgroups(self):
        """What gateways made in any hierarchy: those in the pen, and those of the same names elsewhere."""
        self.seen.update(path.name for path in self.pen.roots())
        found = {str(path) for path in self.pen.roots()}
        for mount, second in proc.cgroup_mounts():
            for name in self.seen if not second else ():
                # Not by pathlib, which minds when somebody else's goes meanwhile.
                found.update(path for depth in ("", "*/", "*/*/", "*/*/*/") for path in glob(str(mount / depth / name)))
        return found

    def sweep(self, kind=None):
        """Ends whoever is left of one tree, or of all, and says whether that worked."""
        mark = f"{self.mark}-{kind or ''}"
        for each in [kind] if kind else TREES:
            self.let_go(each)
        done = until(lambda: proc.kill(mark) == 0 and proc.kill(mark) == 0, 10)
        if kind:
            self.hold(kind)
        return done

    def remove(self):
        self.sweep()
        self.pen.remove()
        subprocess.run(["chmod", "-R", "u+rwx", self.dir / "tmp"], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


class Gateway:
    """One running `spawnling serve`. Ends with `stop`, or with signals of the caller's choice and `wait`."""

    def __init__(self, home, containment, variables=None):
        self.home = home
        flags = ["--containment", containment] if containment else []
        command = [home.program, "serve", "--config", str(home.dir / "torture.toml"), *flags]
        if home.user.uid != os.getuid():
            ids = str(home.user.uid)
            command = ["setpriv", "--reuid", ids, "--regid", ids, "--clear-groups", "--", *command]
        if home.pen.path:
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(home.pen.path / "cgroup.procs"), *command]
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TMPDIR": str(home.dir / "tmp"),
               "HOME": str(home.dir), "SPAWNLING_CACHE_DIR": str(home.dir / "cache"), **(variables or {})}
        self.log = open(home.dir / "log", "ab")
        self.log_start = self.log.tell()
        # In a session of its own, as a service manager starts it: whoever adopts its orphans is in another.
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
                                        env=env, cwd=home.dir, text=True, start_new_session=True)
        line = self.process.stdout.readline()
        found = re.search(r"listening on http://(.*):(\d+)", line)
        if not found:
            self.process.wait()
            raise Refused(self.said().strip() or f"it said {line!r}")
        self.pid, self.port = self.process.pid, int(found[2])
        home.cgroups()

    def said(self):
        with open(self.home.dir / "log", errors="replace") as log:
            log.seek(self.log_start)
            return log.read()

    def text(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def servers(self):
        return json.loads(self.text("/v1/servers"))["servers"]

    def is_asked(self, kind):
        """Whether somebody uses the shared server of that tree."""
        servers = {server["name"]: server["instances"] for server in self.servers()}
        return servers[kind]["alive"] > servers[kind]["idle"]

    def runs(self, kind):
        """How many calls of that tree are not over."""
        found = re.search(rf'^spawnling_calls_running\{{server="{kind}"\}} (\d+)$', self.text("/metrics"), re.M)
        return int(found[1])

    def begin(self, kind, how, ms, headers=()):
        """Sends a call and returns its connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", f"/v1/servers/{kind}/tools/end", json.dumps({"how": how, "ms": ms}),
                           {"Content-Type": "application/json", "Connection": "close", **dict(headers)})
        return connection

    def call(self, kind, how, ms, headers=()):
        """The status of a call, and its body; (None, why) if there was no answer."""
        connection = None
        try:
            connection = self.begin(kind, how, ms, headers)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return None, repr(error)
        finally:
            if connection:
                connection.close()

    def wardens(self):
        return [pid for pid in proc.children(self.pid) if "warden" in proc.command_line(pid) and proc.alive(pid)]

    def keepers(self):
        """The guards of its keepers, the keepers, idle and busy, and the inits of namespaces below them."""
        guards = proc.keepers(self.pid)
        keepers = [keeper for guard in guards for keeper in proc.keepers(guard)]
        below = (init for keeper in keepers for init in proc.keepers(keeper))
        # Who is in no namespace is about to become the leader of a tree.
        return [*guards, *keepers, *(init for init in below if proc.depth(init) > proc.depth(self.pid))]

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds=30):
        """Its status; None if it does not end."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        self.process.stdout.close()
        self.log.close()
        return status

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.wait()
