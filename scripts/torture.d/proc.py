"""What /proc and the cgroup file systems tell: who bears a mark, who runs a program, what is left of a directory.

Nothing here changes anything but `kill`, which kills only what it has just seen to bear a mark.
"""

import os
import re
import signal
from pathlib import Path

VARIABLE = b"SPAWNLING_TORTURE="


def _read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def pids():
    """Every process, each told while the listing still goes on: who forks away from us gets a higher number."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield int(entry.name)


def marked(mark):
    """The living processes that bear a mark which begins so: {pid: whole mark}. A zombie has neither environment nor
    command line. The command line counts too, for an environment may be none of our business (another user's)."""
    found, wanted = {}, mark.encode()
    for pid in pids():
        for words in (_read(pid, "environ"), _read(pid, "cmdline")):
            if wanted not in words:
                continue
            for word in words.split(b"\0"):
                word = word.removeprefix(VARIABLE)
                if word.startswith(wanted):
                    found[pid] = word.decode()
    return found


def running(program):
    """The living processes that run this very file, whatever they call themselves."""
    found = []
    for pid in pids():
        try:
            if os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)") == program:
                found.append(pid)
        except OSError:
            continue
    return found


def stat(pid):
    """(state, parent), or None."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1])) if len(fields) > 2 else None


def alive(pid):
    seen = stat(pid)
    return seen is not None and seen[0] not in "ZXx"


def children(parent):
    return [pid for pid in pids() if (stat(pid) or ("", 0))[1] == parent]


def zombies(parent):
    return [pid for pid in pids() if stat(pid) == ("Z", parent)]


def command_line(pid):
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def keepers(gateway):
    """The processes that stay for the next tree."""
    return [pid for pid in children(gateway) if command_line(pid) == "spawnling shim"]


def descriptors(pid):
    """Without the two by which a gateway holds each of its keepers."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd")) - 2 * len(keepers(pid))
    except OSError:
        return None


def field(pid, name):
    """A number of /proc/PID/status: Threads, VmRSS (KiB)."""
    found = re.search(rf"^{name}:\s+(\d+)".encode(), _read(pid, "status"), re.M)
    return int(found[1]) if found else None


def depth(pid):
    """In how many PID namespaces, one below another, it has a number (proc_pid_status(5), NSpid)."""
    return len((re.search(rb"^NSpid:(.*)$", _read(pid, "status"), re.M) or [b"", b""])[1].split())


def is_connected(port, client):
    """Whether the process behind a port of 127.0.0.1 still has its end of that client's connection (proc_pid_net(5), tcp)."""
    # A connection in TIME_WAIT, state 06, is the kernel's alone.
    theirs = rf" 0100007F:{port:04X} 0100007F:{client:04X} (?!06)"
    return re.search(theirs, Path("/proc/net/tcp").read_text()) is not None


def describe(pid):
    """One line for a report."""
    state, parent = stat(pid) or ("gone", 0)
    cgroups = _read(pid, "cgroup").decode(errors="replace").split()
    cgroup = next((line for line in cgroups if line.startswith("0::")), "-")
    return (f"pid {pid} ({state}), parent {parent} [{command_line(parent)[:60] or '?'}], cgroup {cgroup}, "
            f"{command_line(pid)[:120]}")


def kill(mark):
    """One round of killing everybody who bears a mark that begins so; how many there were."""
    victims = marked(mark)
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    return len(victims)


def cgroup_mounts():
    """[(mount point, is it version 2)], from /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in ("cgroup", "cgroup2"):
            mounts.append((Path(before.split()[4]), kind == "cgroup2"))
    return mounts


def own_cgroup():
    """Our directory in the version 2 hierarchy, if there is one."""
    mount = next((at for at, second in cgroup_mounts() if second), None)
    mine = re.search(r"^0::(/.*)$", Path("/proc/self/cgroup").read_text(), re.M)
    return mount / mine[1].lstrip("/") if mount and mine else None
