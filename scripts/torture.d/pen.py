"""A cgroup around one gateway, made by this script: whatever a tree does, it stays in there.

It is a second witness beside the mark, and the broom for those that survived; it also is what a service manager gives
a gateway of another user: a subtree of its own (delegation, cgroups(7)). Where cgroups cannot be made there is no pen,
and the mark is the only witness.
"""

import os
from pathlib import Path

import proc

DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")


class Pen:
    def __init__(self, name, uid):
        base, self.path, self.why = proc.own_cgroup(), None, "no cgroup file system of version 2 is mounted"
        if base is None:
            return
        path = base / f"torture-{name}"
        try:
            path.mkdir()
            for file in ("", *DELEGATED):
                os.chown(path / file, uid, uid)
            (path / "cgroup.procs").open("w").close()
            self.path, self.why = path, None
        except OSError as error:
            self.why = f"cannot make a cgroup below {base}: {error.strerror}"

    def members(self):
        """Every process in it, and in the cgroups below it."""
        found = set()
        for directory, _, _ in os.walk(self.path) if self.path else ():
            try:
                found.update(map(int, Path(directory, "cgroup.procs").read_text().split()))
            except OSError:
                continue
        # A zombie stays listed until it is reaped.
        return {pid for pid in found if proc.alive(pid)}

    def roots(self):
        """The cgroups that a gateway made in it."""
        return sorted(self.path.glob("spawnling-*")) if self.path else []

    def kill(self):
        if self.path:
            try:
                (self.path / "cgroup.kill").write_text("1")
            except OSError:
                pass

    def remove(self):
        """Takes it away, with what is left in it. Kills first."""
        self.kill()
        for directory, _, _ in os.walk(self.path, topdown=False) if self.path else ():
            try:
                os.rmdir(directory)
            except OSError:
                pass
