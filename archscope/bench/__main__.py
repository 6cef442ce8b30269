"""`python -m archscope.bench JOB`: the process that runs one job; started by `archscope bench`.

It says what happens as JSON lines on its standard output; what the network or its libraries print goes to standard
error.
"""

import json
import os
import sys
from typing import Any

from archscope.bench.inference import infer
from archscope.bench.worker import Job, run


def main() -> int:
    """Run the job of the command line; every event and the row go to standard output as JSON lines."""
    own = os.dup(1)  # the events' own way out: what a network prints must not be taken for one
    os.dup2(2, 1)
    with os.fdopen(own, "w", encoding="utf-8") as events:

        def tell(event: dict[str, Any]) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        body = json.loads(sys.argv[1])
        job = Job(**body | {"batches": tuple(body.get("batches", ()))})
        if job.batches:
            for row in infer(job):
                tell({"event": "row", "row": row})
            return 0
        tell({"event": "row", "row": run(job, report=tell)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
