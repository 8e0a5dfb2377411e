"""A real SLURM on loopback: two nodes, ten fake GPUs, accounting; everything in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NODES = ("first", "second")
NEEDED = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db", "sbatch")
CONF = """
ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld}
AuthType=auth/munge
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SwitchType=switch/none
MpiDefault=none
GresTypes=gpu
KillWait=5
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
NodeName=DEFAULT Sockets=1 ThreadsPerCore=1 RealMemory=20000
NodeName=first NodeHostname=localhost NodeAddr=127.0.0.1 Port={slurmd} CoresPerSocket=4 Gres=gpu:8
NodeName=second NodeHostname=localhost NodeAddr=127.0.0.1 Port={other} CoresPerSocket=2 Gres=gpu:2
PartitionName=main Nodes=first Default=YES PriorityTier=1 GraceTime=30
PartitionName=high Nodes=first PriorityTier=10 PreemptMode=off
PartitionName=wide Nodes=first,second PreemptMode=off
"""
DBD_CONF = """
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""


def missing() -> str | None:
    """Why SLURM cannot be started here; None if it can."""
    if os.getuid() != 0:
        return "starting SLURM needs root"
    lacking = [name for name in NEEDED if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None]
    return f"SLURM is not installed ({', '.join(lacking)}): see .ci/run" if lacking else None


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Starts it and points this process's SLURM commands to it; ends every process it started."""
    for name in ("state", "data", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    values = {"folder": folder, "ctld": _port(), "slurmd": _port(), "other": _port(), "dbd": _port()}
    (folder / "slurm.conf").write_text(CONF.format(**values))
    (folder / "slurmdbd.conf").write_text(DBD_CONF.format(**values))
    (folder / "slurmdbd.conf").chmod(0o600)
    numbers = dict(zip(NODES, ("0-7", "8-9")))
    gpus = [f"NodeName={node} Name=gpu File={folder}/nvidia[{numbers[node]}]\n" for node in NODES]
    (folder / "gres.conf").write_text("".join(gpus))
    for number in range(10):
        os.mknod(folder / f"nvidia{number}", 0o666 | 0o020000, os.makedev(1, 3))
    before = dict(os.environ)
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "MYSQL_UNIX_PORT": str(folder / "sql")}
    os.environ["PATH"] += ":/usr/sbin"
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{Path(command[0]).name}-{len(started)}.out").open("wb") as out:
            started.append(subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL))

    try:
        if not Path("/run/munge/munge.socket.2").exists():
            subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "/run/munge"], check=True)
            start("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "/usr/sbin/munged", "--foreground")
        data = f"--datadir={folder / 'data'}"
        subprocess.run(["mariadb-install-db", "--no-defaults", "--user=root", data], check=True, capture_output=True)
        start("mariadbd", "--no-defaults", "--user=root", data, f"--socket={folder / 'sql'}", "--skip-networking")
        _until(lambda: (folder / "sql").exists(), "the data base")
        start("slurmdbd", "-D")
        _until(lambda: _answers(values["dbd"]), "slurmdbd")
        start("slurmctld", "-D")
        _until(lambda: _answers(values["ctld"]), "slurmctld")
        for node in NODES:
            start("slurmd", "-D", "-N", node)
        _until(
            lambda: _output("sinfo", "--noheader", "--Node", "--partition=wide", "--format=%T") == "idle\nidle\n",
            "nodes",
        )
        yield
    finally:
        subprocess.run(["scancel", "--me"], capture_output=True, check=False)
        with contextlib.suppress(TimeoutError):
            _until(lambda: not _output("squeue", "--noheader", "--me"), "the end of all jobs", 30)
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        os.environ.clear()
        os.environ.update(before)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _answers(port: object) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(str(port)))) == 0


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _until(true: object, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come up")
        time.sleep(0.3)
