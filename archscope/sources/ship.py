"""`python -m archscope.sources.ship`: run every network of the zoo and write the records that come with archscope."""

import json
import os
import zlib

from archscope.core.files import save
from archscope.core.version import torch_version
from archscope.sources import shipped, store
from archscope.sources.records import record_of
from archscope.zoo.catalogue import entries


def made() -> bytes:
    """The file, from new runs."""
    places, packed = {}, b""
    for name in entries():
        one = zlib.compress(record_of(name).to_json().encode(), 9)
        places[name] = [len(packed), len(one)]
        packed += one
    head = {"archscope_zoo": shipped.FORMAT, "code": store.code_digest(), "torch": torch_version(), "records": places}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + packed


if __name__ == "__main__":
    os.environ["ARCHSCOPE_FRESH"] = "1"
    save(made(), shipped.FILE)
    print(f"{os.path.getsize(shipped.FILE):,} bytes in {shipped.FILE}")
