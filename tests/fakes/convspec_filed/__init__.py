"""An adapter whose files say, as text, what happens when they are loaded."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from convspec.contract import FoundConv, PlanAdapter
from convspec.errors import UnsupportedError


class Adapter(PlanAdapter):
    def configure(self, **settings):
        assert settings == {"device": "cpu"}

    def load(self, path):
        source = Path(path, "fake.pb") if Path(path).is_dir() else Path(path)
        words = source.read_text("utf-8")
        if words == "hang":
            time.sleep(100)
        if words == "killed":
            os.kill(os.getpid(), signal.SIGSEGV)
        if words == "leaves":
            sys.stderr.write("last \x1b[31mwords\n")
            os._exit(3)
        if words == "large":
            return bytearray(1 << 36)
        if words == "chatty":
            print("this is printed where the answers go")
        if words == "nonsense":
            os.write(3, b"[1, 2]\n")
            time.sleep(100)
        if words == "refused":
            raise UnsupportedError("a \x1b[31mname from the file\n")
        if words == "broken":
            raise OSError("whatever it was")
        return json.loads(words) if words.startswith("{") else {}

    def store(self, model, path):
        Path(path).write_text(json.dumps(model), "utf-8")

    def convs(self, model, input_shape=None, *, fold_pads=False):
        from convspec_filed.model import parts

        pads = ((1, 0), (2, 2)) if fold_pads else ()
        return [FoundConv(part.path, part.reading, part.problem, pads) for part in parts(model) if part.kind == "conv"]

    def read(self, model, input_shape=None):
        return self.convs(model)[0].reading


ADAPTER = Adapter(
    name="convspec_filed:ADAPTER", package="convspec_filed", requires=(), distributions=(), native_layout="NHWC",
    dtypes=("float32",), files=(".fake", "fake.pb"),
)  # fmt: skip
