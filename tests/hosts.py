"""Several hosts on one machine: each has a network, processes, a name, /tmp and HOME of its own, all see its files.

A host is a shell that waits for the end of its input, in namespaces without a name. So the kernel clears up: when that
pipe is closed, be it because this process has died, every process of the host dies, and then its mounts and its network
go.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest
from conftest import captured

TOOLS = ["ip", "nsenter", "setpriv", "sshd", "ssh-keygen", "unshare"]
# sshd and ip are not on everybody's PATH, and sshd wants to be started by its whole path.
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
USER = pwd.getpwuid(os.getuid()).pw_name


def _possible() -> bool:
    if os.getuid() != 0 or not all(shutil.which(tool, path=PATH) for tool in TOOLS):
        return False
    command = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


# Root in CI has to be able to (.ci/run installs what they need): else these tests fail.
needs_hosts = pytest.mark.skipif(
    not (os.environ.get("CI") and os.getuid() == 0) and not _possible(),
    reason="no hosts can be made here: they need root and apt-get install iproute2 openssh-server util-linux",
)

# Bash, because as process 1 it also has to reap other processes' orphans.
WAIT = "echo up; read -r _"
# $1: the host's name; $2: what is to be its /tmp; the others: folders in the real /tmp that stay where they are.
BOOT = f"""
set -e
hostname "$1"; own=$2; shift 2
ip link set lo up
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run; mkdir -m 755 /run/sshd
for kept; do mkdir -p "$own/${{kept#/tmp/}}"; mount --bind "$kept" "$own/${{kept#/tmp/}}"; done
mount --rbind "$own" /tmp
{WAIT}
"""
SERVER = """
Port 22
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""


def _up(*command: str | Path) -> subprocess.Popen[str]:
    """Start a `command` that ends with WAIT, and return when it has got there."""
    process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if process.stdout.readline() != "up\n":
        _down(process)
        raise AssertionError(f"{command} has ended with {process.returncode}")
    return process


def _down(process: subprocess.Popen[str]) -> None:
    """Let a process that _up has started end, and all of its namespace with it."""
    if process.stdin:
        process.stdin.close()
    process.wait(60)
    if process.stdout:
        process.stdout.close()


class Host:
    """One of the hosts of a Network."""

    def __init__(self, network: "Network", number: int):
        self.network = network
        self.name = f"h{number}"
        self.address = f"10.77.0.{number + 1}"
        self.home = network.folder / self.name / "home"
        self._started: list[subprocess.Popen[str]] = []
        own = network.folder / self.name / "tmp"
        for folder in (self.home / ".ssh", own):
            folder.mkdir(parents=True)
        own.chmod(0o1777)
        # DVC reads this one; ssh itself looks for it in the home folder of /etc/passwd.
        (self.home / ".ssh/config").write_text(f"IdentityFile {network.keys}/user\n")
        (self.home / ".gitconfig").write_text(f"[user]\nname = {self.name}\nemail = {self.name}@example.com\n")
        self.env = {
            "HOME": str(self.home),
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSH_COMMAND": f"ssh -F none -i {network.keys}/user -o BatchMode=yes -o LogLevel=ERROR "
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        }
        kept = {path.resolve() for path in (network.folder, Path(sys.prefix), Path(sys.base_prefix))}
        kept = [path for path in kept if path.is_relative_to("/tmp")]
        namespaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc"]
        self._init = _up("unshare", *namespaces, "bash", "-c", BOOT, "boot", self.name, own, *kept)
        network.ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self._init.pid))
        network.ip("link", "set", self.name, "master", "switch", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def _enter(self, *command: str | Path, cwd: Path | None) -> list[str]:
        pid = self._init.pid
        spaces = ["--mount", "--uts", "--net", f"--pid=/proc/{pid}/ns/pid_for_children"]
        # nsenter waits outside for the command, which is to die when it is killed.
        inside = ["setpriv", "--pdeathsig", "KILL", "env", f"--chdir={cwd or self.home}"]
        return ["nsenter", f"--target={pid}", *spaces, *inside, *map(str, command)]

    def try_run(self, *command: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `command` on this host; standard output and error both end up in its `stdout`."""
        return captured(self._enter(*command, cwd=cwd), self.env | env)

    def run(self, *command: str | Path, cwd: Path | None = None, **env: str) -> str:
        """Run `command`, which must succeed, and return what it printed."""
        done = self.try_run(*command, cwd=cwd, **env)
        assert done.returncode == 0, f"{self.name}: {done.stdout}"
        return done.stdout

    def start(self, *command: str | Path, log: Path, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Start `command` in the background; to kill what is returned kills it alone, not what it has started."""
        with log.open("a") as file:
            process = subprocess.Popen(
                self._enter(*command, cwd=cwd),
                env=self.env | env,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        return process

    def kill(self) -> None:
        """Pull the plug: nobody hears of this host again."""
        if self._init.returncode is None:
            self.network.ip("link", "delete", self.name)
            self.close()

    def cut(self) -> None:
        """Let whatever this host sends or is sent vanish, while it goes on; `mend` ends that."""
        self.network.ip("link", "set", self.name, "nomaster")

    def mend(self) -> None:
        self.network.ip("link", "set", self.name, "master", "switch")

    def freeze(self) -> None:
        """Stop all of this host's processes; `thaw` lets them go on."""
        self.run("bash", "-c", "kill -STOP -1 || true")

    def thaw(self) -> None:
        self.run("bash", "-c", "kill -CONT -1 || true")
        for process in self._started:  # nsenter stops together with what it waits for
            process.send_signal(signal.SIGCONT)

    def small_disk(self, path: Path, megabytes: int) -> None:
        """Let `path` be an empty disk of that size, for this host alone."""
        path.mkdir(parents=True, exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path)

    def close(self) -> None:
        self._init.stdin.close()
        for process in self._started:  # nsenter may be stopped; process 1 waits until it takes note
            process.kill()
        for process in [self._init, *self._started]:
            _down(process)


class Network:
    """Hosts h0, h1, … with the addresses 10.77.0.1, 10.77.0.2, …; what they have and leave lies in `folder`."""

    def __init__(self, folder: Path, n: int):
        self.folder = folder.resolve()
        self.n = n
        self.keys = self.folder / "keys"
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        self.keys.mkdir(parents=True)
        for name in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.keys / name]
            subprocess.run(command, check=True)
        self._switch = _up("unshare", "--net", "bash", "-c", WAIT)
        try:
            self.ip("link", "add", "switch", "type", "bridge")
            self.ip("link", "set", "switch", "up")
            for number in range(self.n):
                self.hosts.append(Host(self, number))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.close()
        _down(self._switch)

    def ip(self, *arguments: str) -> None:
        """Run `ip` where the hosts' cables end."""
        subprocess.run(["nsenter", f"--target={self._switch.pid}", "--net", "ip", *arguments], check=True)

    def serve(self, root: Path) -> tuple[str, str]:
        """Give all, on h0, what is committed in `root` and what its DVC cache has; return Git's and DVC's URL."""
        folder = self.folder / "server"
        subprocess.run(["git", "clone", "--quiet", "--bare", root, folder / "lenet.git"], check=True)
        shutil.copytree(root / ".dvc/cache", folder / "dvc")  # a cache and a remote look the same
        (folder / "sshd_config").write_text(SERVER.format(keys=self.keys))
        self.start_server()
        url = f"ssh://{USER}@{self.hosts[0].address}{folder}"
        return f"{url}/lenet.git", f"{url}/dvc"

    def start_server(self) -> None:
        """Start what both remotes need, together with a process 1 of its own."""
        folder = self.folder / "server"
        sshd = shutil.which("sshd", path=PATH)
        script = f"{sshd} -f {folder}/sshd_config -E {folder}/log && {WAIT}"
        command = self.hosts[0]._enter("unshare", "--pid", "--fork", "--mount-proc", "bash", "-c", script, cwd=None)
        self._server = _up(*command)
        self.hosts[0]._started.append(self._server)

    def stop_server(self) -> None:
        """Let both remotes be gone at once, in the midst of what they do; `start_server` brings them back."""
        _down(self._server)
