"""`python -m archscope.bench JOB`: the process that runs one job, started by `archscope bench`.

Events and rows are JSON lines on standard output; prints of the network and its libraries go to standard error.
"""

import json
import os
import sys
from typing import Any

from archscope.bench.inference import infer
from archscope.bench.job import Job
from archscope.bench.worker import run


def main() -> None:
    """Run the job of the command line."""
    output = os.dup(1)  # for events only: the network's own prints must not be read as events
    os.dup2(2, 1)
    with os.fdopen(output, "w", encoding="utf-8") as events:

        def send(event: dict[str, Any]) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        job = Job.from_json(sys.argv[1])
        for row in infer(job) if job.batches else [run(job, report=send)]:
            send({"event": "row", "row": row})


if __name__ == "__main__":
    main()
