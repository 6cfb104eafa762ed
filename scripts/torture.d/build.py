"""A directory that every user can read, with the programs in it that gateways link to."""

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

TREE = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "tree.c"


def compile_tree(into):
    """A static program if the C library allows it: the earlier does `early` fork."""
    command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(into / "tree"), str(TREE)]
    if subprocess.run([*command, "-static"], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run(command, check=True)


@contextmanager
def base(spawnling):
    """The directory; gone with all that is in it at the end. Without `spawnling` it holds an empty file instead."""
    path = Path(tempfile.mkdtemp(prefix="torture-")).resolve()
    try:
        path.chmod(0o755)
        compile_tree(path)
        if spawnling:
            shutil.copy(spawnling, path / "spawnling")
        else:
            (path / "spawnling").touch()
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
