"""That the detector finds what is there: a process that escaped, whole runs with survivors, and none where is none."""

import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import proc
from ends import Findings, promised
from gateway import until
from table import cell, table, verdict


def escaped_process_is_found_killed_and_buried():
    mark = "selftest-escaped"
    script = 'setsid sleep 60 </dev/null >/dev/null 2>&1 & exec true'
    subprocess.run(["sh", "-c", script], env={"PATH": "/usr/bin:/bin", "SPAWNLING_TORTURE": mark}, check=True)
    assert until(lambda: len(proc.marked(mark)) == 1, 5), "the mark is not found"
    (pid,) = proc.marked(mark)
    assert proc.marked("selftest-") == {pid: mark} and not proc.marked("elftest-")
    assert proc.alive(pid) and "sleep" in proc.describe(pid)
    assert proc.stat(pid)[1] == os.getppid(), "it was adopted by somebody who may never bury it"
    assert until(lambda: proc.kill(mark) == 0, 5) and not proc.alive(pid)
    assert until(lambda: proc.stat(pid) is None, 5), "nobody has buried it"


def program_is_found_by_its_file_and_zombies_by_their_parent():
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory).resolve() / "sleeper"
        program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
        program.chmod(0o755)
        process = subprocess.Popen([program, "60"])
        assert until(lambda: proc.running(str(program)) == [process.pid], 5)
        process.kill()
        assert until(lambda: process.pid in proc.zombies(os.getpid()), 5)
        assert proc.running(str(program)) == []
        process.wait()


def survivors_decide_the_verdict():
    found = Findings("cgroup", "root")
    found.round("answer", "setsid")
    assert (cell(found, "answer", "setsid"), verdict([found], [])[1]) == ("1:0", 0)
    found.survived("answer", "setsid", [1], False)
    lines, status = verdict([found], [])
    assert (cell(found, "answer", "setsid"), lines[-1], status) == ("1:1", "survivors: 1", 1)
    assert "| answer | setsid | 1:1         |" in table([found])


def group_is_forgiven_what_it_does_not_promise():
    found = Findings("group", "root")
    for end, tree in (("answer", "setsid"), ("sigkill", "plain")):
        found.round(end, tree)
        found.survived(end, tree, [1], False)
        assert cell(found, end, tree) == "1:1*" and not promised("group", end, tree)
    assert verdict([found], [])[1] == 0
    found.survived("answer", "child", [1], False)
    assert verdict([found], [])[1] == 1


def litter_and_wrong_answers_fail_too():
    for name in ("litter", "odd"):
        found = SimpleNamespace(told=[], litter=[], odd=[], calls=1)
        getattr(found, name).append("something")
        assert verdict([found], [])[1] == 1
    assert verdict([], ["too few containments"])[1] == 1


def whole_run_finds_its_survivors(script, spawnling):
    flags = ["--rounds", "1", "--min-containments", "1", "--containments", "group", "--trees", "setsid,refork,plain"]
    command = [script, "--spawnling", spawnling, *flags, "--ends", "answer,gone,sigkill"]
    strict = subprocess.run([*command, "--no-stars"], capture_output=True, text=True)
    last = strict.stdout.splitlines()[-1]
    assert strict.returncode == 1 and int(last.removeprefix("survivors: ")) >= 3, strict.stdout + strict.stderr
    assert "SURVIVOR answer x setsid, group/" in strict.stdout and "wrong: 0" in strict.stdout
    fair = subprocess.run(command, capture_output=True, text=True)
    assert fair.returncode == 0 and fair.stdout.splitlines()[-1] == "survivors: 0", fair.stdout + fair.stderr
    few = subprocess.run([*command, "--min-containments", "6"], capture_output=True, text=True)
    assert few.returncode == 1 and "FAILED only" in few.stdout, few.stdout + few.stderr


def run(script, spawnling):
    tests = (escaped_process_is_found_killed_and_buried, program_is_found_by_its_file_and_zombies_by_their_parent,
             survivors_decide_the_verdict, group_is_forgiven_what_it_does_not_promise,
             litter_and_wrong_answers_fail_too, lambda: whole_run_finds_its_survivors(script, spawnling))
    for test in tests:
        test()
    print(f"self-test: {len(tests)} passed")
    return 0
