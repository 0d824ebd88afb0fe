"""Stands in for the command line in tests of jobs; `FAKE_WORKER` says how it ends."""

import os
import signal
import sys
import time
from pathlib import Path

from napari_ectkd.events import Cancelled, EpochEnd, Failed, Finished, Noted
from napari_ectkd.jobs import JobFolder

arguments = sys.argv[1:]
flag = "--job" if "--job" in arguments else "--out"
job = JobFolder(Path(arguments[arguments.index(flag) + 1]))
how = os.environ["FAKE_WORKER"]


def epoch(number):
    metrics = {"loss": 1 / number, "accuracy": 0.5, "val_loss": 1.5 / number}
    metrics |= {"val_accuracy": 0.6, "val_macro_f1": 0.5, "teacher_val_accuracy": 0.9}
    metrics |= {"per_second": 40.0, "learning_rate": 0.01, "memory_gib": 1.5}
    return EpochEnd(epoch=number, epochs=3, metrics=metrics, seconds_left=1)


scores = {"precision": 1.0, "recall": 0.5, "f1": 0.67, "support": 4}
network = {"parameters": 1000, "macs": 10**6, "size_bytes": 4000}
report = {"accuracy": 0.6, "macro_f1": 0.5, "classes": {"a": scores, "b": scores}}
result = {
    **network,
    "model": "compact",
    "best_epoch": 2,
    "seconds": 1.0,
    "val_accuracy": 0.6,
    "val_macro_f1": 0.5,
    "val_loss": 0.5,
    "report": report,
    "comparison": [
        {**network, "name": "t", "role": "teacher", "ms_per_subtomogram": 10.0},
        {**network, "name": "s", "role": "student", "ms_per_subtomogram": 0.5},
    ],
}

if how == "unvalidated":
    result = {k: v for k, v in result.items() if k[:4] != "val_" and k != "report"}

job.begin()
job.log(Noted(text="few labels", is_warning=True))
job.log(epoch(1))
if how == "fail":
    sys.stderr.write("RuntimeError: out of memory\n")
    job.log(Failed(message="out of memory", details="Traceback: RuntimeError"))
    sys.exit(1)
if how == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "bug":
    raise RuntimeError("nobody caught this")
if how == "half":
    line = epoch(2).line()
    with job.events_path.open("a") as file:
        file.write(line[:20])
        file.flush()
        time.sleep(0.3)
        file.write(line[20:] + "\n")
while how == "wait":
    if job.cancel_path.exists():
        job.log(Cancelled())
        sys.exit(130)
    time.sleep(0.02)
while how == "hang":
    time.sleep(0.02)
job.log(epoch(3))
job.log(Finished(result=result))
