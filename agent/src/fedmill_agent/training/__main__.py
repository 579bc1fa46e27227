# SPDX-License-Identifier: Apache-2.0
"""Entry point of the training process: requests on standard input, answers on standard output."""

import os
import sys
import threading
from queue import SimpleQueue

from fedmill_agent.training import protocol
from fedmill_shared.errors import FedmillError


def main() -> int:
    """Serve requests until standard input ends; then leave at once, whatever is in hand."""
    os.nice(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # nothing that a library prints may reach the answers
    requests: SimpleQueue[protocol.Request] = SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    from fedmill_agent.training.worker import Worker, quiet_torch

    quiet_torch()
    worker = Worker()
    while True:
        request = requests.get()
        try:
            answer = worker.answer(request)
        except FedmillError as error:
            answer = protocol.Failed(
                number=request.number, error=type(error).__name__, message=str(error)
            )
        protocol.send(answers, answer)


def _read(requests: SimpleQueue[protocol.Request]) -> None:
    while (request := protocol.receive_request(sys.stdin.buffer)) is not None:
        requests.put(request)
    os._exit(0)  # the daemon is gone: a training in hand has nobody to report to


if __name__ == "__main__":
    sys.exit(main())
