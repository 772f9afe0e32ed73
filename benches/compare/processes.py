"""Starting and ending processes, and what /proc says of them."""

import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

PROXY_CORE, LOAD_CORE = "0", "1"
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
# Where Debian puts daemons.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def which(tool: str) -> str | None:
    return shutil.which(tool, path=PATH)


def start(core: str, command: list[str], log: pathlib.Path) -> subprocess.Popen:
    with log.open("w") as output:
        return subprocess.Popen(["taskset", "-c", core, *command], stdout=output, stderr=output)


def stop(process: subprocess.Popen, target: int | None = None) -> None:
    """Ends a process and its descendants; `target` is the one that is asked first, if not the process."""
    family = tree(process.pid)
    if process.poll() is None:
        send(target or process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            for pid in family:
                send(pid, signal.SIGKILL)
            process.wait()


def send(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass


def compile_c(name: str, folder: pathlib.Path) -> str:
    source = pathlib.Path(__file__).parent / f"{name}.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", folder / name, source], check=True)
    return str(folder / name)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those that the system gives to clients: between this look and the
    start of who is to listen, one of many connections would take one of those."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    held: list[socket.socket] = []
    while len(held) < count:
        try:
            held.append(socket.create_server(("127.0.0.1", random.randrange(10_000, max(lowest, 20_000)))))
        except OSError:
            continue
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen, log: pathlib.Path) -> None:
    deadline = time.monotonic() + 60  # valgrind takes seconds to begin
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}; its log says:\n{log.read_text()}")


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    found = [root]
    for pid in found:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:  # it has ended meanwhile
                continue
    return found


def cpu_us(root: int) -> tuple[float, float]:
    """User and system time of a process tree, children that have ended included."""
    user = system = 0
    for pid in tree(root):
        try:
            text = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        # The name, in parentheses, may hold blanks; the state that follows it is field 3.
        fields = text.rpartition(")")[2].split()
        utime, stime, cutime, cstime = (int(value) for value in fields[11:15])
        user, system = user + utime + cutime, system + stime + cstime
    return user * TICK_US, system * TICK_US


def rss_kib(root: int) -> int:
    """Resident memory of a process tree; what its processes share is counted for each."""
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    return sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * page_kib for pid in tree(root))


class Disturbance:
    """How much of the machine somebody else had since the last look: its host, or processes not ours."""

    def __init__(self) -> None:
        self.last = self._look()

    @staticmethod
    def _look() -> tuple[float, float, float]:
        fields = [int(value) for value in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        user, nice, system, _, _, _, _, steal = fields
        ours = sum(cpu_us(os.getpid())) / TICK_US
        return steal, user + nice + system - ours, sum(fields)

    def share(self) -> tuple[float, float]:
        """What the host stole and what other processes used, as shares of all CPUs."""
        now = self._look()
        steal, foreign, total = (after - before for after, before in zip(now, self.last))
        self.last = now
        return steal / max(1, total), max(0, foreign) / max(1, total)


def allow_files(count: int) -> int:
    """How many files this process and those that it starts may open: `count`, or less where the system says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))
        return count
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
