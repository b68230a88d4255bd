"""Runs `python -m vlm` in forks of a process that has imported everything: no test, a helper.

Reads a JSON object a line, {"words": [...], "die": n}, and answers with the pid of the fork, then
with its exit status. A fork kills itself with SIGKILL when it is about to do its n-th change to
files below the last of the words; n = 0 means never. At its end it writes how many it did to
standard error.
"""

import json
import os
import signal
import sys

import torch
import transformers

torch.set_num_threads(1)  # the threads of a pool do not live on in a fork
from vlm.cli import main  # noqa: E402

_ = transformers.Qwen3VLForConditionalGeneration  # transformers imports its models when asked
CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.chmod", "shutil.rmtree", "os.rmdir")


def run(words, die):
    done = 0

    def count(event, arguments):
        nonlocal done
        if event in CHANGES and str(arguments[0]).startswith(words[-1]):
            done += 1
            if done == die:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    status = main(words)
    os.write(2, f"changes: {done}\n".encode())
    os._exit(status)


for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(2, 1)  # what it says is no answer
        run(order["words"], order["die"])
    os.write(1, f"{child}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, f"{status}\n".encode())
