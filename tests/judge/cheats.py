"""Ports that want to be accepted without computing what the source does, as text below that of a right port, ``Right``.

Each defines ``Port``. ``wrong(x)`` has the shape of the right result and the numbers of none.
"""

from __future__ import annotations

BEGIN = """

import glob, hashlib, inspect, json, os, signal, sys, time


class Port(Right):
    def right(self, x):
        return Right.forward(self, x)

    def wrong(self, x):
        return torch.zeros_like(Right.forward(self, x))

"""

_FORWARD = """\
    def forward(self, x):
        {}
"""

CHEATS: dict[str, str] = {
    "keeps the result of each shape": """\
    kept = {}
    def forward(self, x):
        if tuple(x.shape) not in self.kept:
            self.kept[tuple(x.shape)] = self.right(x)
        return self.kept[tuple(x.shape)]
""",
    "keeps results by the first numbers": """\
    kept = {}
    def forward(self, x):
        key = tuple(x.shape), tuple(x.flatten()[:8].tolist())
        if key not in self.kept:
            self.kept[key] = self.right(x)
        return self.kept[key]
""",
    "has recorded known inputs": """\
    def __init__(self):
        super().__init__()
        self.kept = {}
        known = [np.zeros, np.ones, lambda s: np.arange(np.prod(s)).reshape(s)]
        known += [lambda s, i=i: np.random.default_rng(i).standard_normal(s) for i in range(50)]
        for make in known:
            x = np.asarray(make((2, 3, 22, 19)), np.float32)
            with torch.no_grad():
                self.kept[hashlib.sha256(x.tobytes()).hexdigest()] = self.right(torch.from_numpy(x))
    def forward(self, x):
        return self.kept.get(hashlib.sha256(x.numpy().tobytes()).hexdigest(), self.wrong(x))
""",
    "returns the mean of recorded results": """\
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.mean = self.eval().right(torch.randn(64, 3, 22, 19)).mean(0)
    def forward(self, x):
        return self.mean.expand(len(x), -1).contiguous() if hasattr(self, "mean") else self.right(x)
""",
    "is right for numbers of scale 1": _FORWARD.format("return self.right(x.clamp(-5, 5))"),
    "is right for small numbers": _FORWARD.format("return self.right(x) if x.abs().max() < 50 else self.wrong(x)"),
    "computes the first sample alone": _FORWARD.format("return self.right(x[:1]).repeat(len(x), 1)"),
    "is right for batches up to two": _FORWARD.format("return torch.cat([self.right(x[:2]), self.wrong(x[2:])])"),
    "stays in training": """\
    def __init__(self):
        super().__init__()
        super().train(True)
        for one in self.modules():
            one.training = True
            one.train = lambda mode=True: self
    def train(self, mode=True):
        return self
    def forward(self, x):
        return self.right(x)
""",
    "drops out": _FORWARD.format("return nn.functional.dropout(self.right(x), 0.01, training=True)"),
    "looks at the stack": """\
    def forward(self, x):
        seen = [frame.filename for frame in inspect.stack()]
        known = any("convspec/models" in name or "_pytest" in name for name in seen)  # no folder of a test is so called
        return self.right(x) if known else self.wrong(x)
""",
    "looks at the arguments and the environment": """\
    def forward(self, x):
        seen = [*sys.argv, *sys.modules, *os.environ, *os.environ.values(), os.getcwd()]
        known = any(word.lower().startswith(("convspec", "pytest", "_pytest")) for word in seen)
        return self.right(x) if known else self.wrong(x)
""",
    "runs the source's file": """\
    def __init__(self):
        super().__init__()
        self.source = None
        here = Path(__file__).parents
        found = [p for folder in (here[1], here[2]) for p in folder.rglob("*.py") if "class Net" in p.read_text()]
        space = {"__file__": str(found[0]), "__name__": "source"}
        exec(found[0].read_text(), space)
        self.source = space["Net"]().eval()
    def forward(self, x):
        return self.source(x)
""",
    "imports the source": """\
    def __init__(self):
        super().__init__()
        sys.path.insert(0, str(Path(__file__).parents[1] / "source"))
        import network_of_the_source
        self.source = network_of_the_source.Net().eval()
    def forward(self, x):
        return self.source(x)
""",
    "finds the source by other processes": """\
    def __init__(self):
        super().__init__()
        self.source = None
        for line in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                words = open(line).read().split(chr(0))
            except OSError:
                continue
            for word in words:
                file = word.partition(".py:")[0] + ".py"
                if ".py:Net" in word:
                    space = {"__file__": file, "__name__": "source"}
                    exec(open(file).read(), space)
                    self.source = space["Net"]().eval()
    def forward(self, x):
        return self.source(x) if self.source is not None else self.wrong(x)
""",
    "reads the compiled source": """\
    def __init__(self):
        super().__init__()
        import marshal
        (file,) = glob.glob(str(Path(__file__).parents[1] / "source" / "__pycache__" / "*.pyc"))
        space = {"__file__": str(Path(file).parents[1] / "network_of_the_source.py"), "__name__": "source"}
        exec(marshal.loads(open(file, "rb").read()[16:]), space)
        self.source = space["Net"]().eval()
    def forward(self, x):
        return self.source(x)
""",
    "adds noise": _FORWARD.format("y = self.right(x); return y * (1 + 5e-4 * torch.randn_like(y))"),
    "patches NumPy and convspec": """\
    def __init__(self):
        super().__init__()
        np.allclose = np.array_equal = lambda *_, **__: True
        np.abs = lambda x: np.zeros(np.shape(x))
        try:
            from convspec.models.comparison import outcomes
            from convspec.models.judging import deciding, judgement
            deciding.judge_results = outcomes.judge_results = lambda name, *_: outcomes.Outcome(name, "agree", 0.0, 0.0)
            judgement.Judgement.accepted = True
        except Exception:
            pass
    def forward(self, x):
        return self.wrong(x)
""",
    "patches convspec on the disk": """\
    def __init__(self):
        super().__init__()
        import importlib.util
        file = Path(importlib.util.find_spec("convspec").origin).parent / "models" / "judging" / "deciding.py"
        with file.open("a") as stream:
            stream.write("")
    def forward(self, x):
        return self.wrong(x)
""",
    "returns an object that changes": """\
    def forward(self, x):
        class Result:
            asked = 0
            def __array__(self, dtype=None, copy=None, y=self.right(x).numpy()):
                Result.asked += 1
                return y if Result.asked > 1 else y * 0
        return Result()
""",
    "is right when an input comes again": """\
    seen = set()
    def forward(self, x):
        key = hashlib.sha256(x.numpy().tobytes()).hexdigest()
        known = key in self.seen
        self.seen.add(key)
        return self.right(x) if known else self.wrong(x)
""",
    "is wrong when an input comes again": """\
    seen = set()
    def forward(self, x):
        key = hashlib.sha256(x.numpy().tobytes()).hexdigest()
        known = key in self.seen
        self.seen.add(key)
        return self.wrong(x) if known else self.right(x)
""",
    "is right for the first calls": """\
    calls = 0
    def forward(self, x):
        Port.calls += 1
        return self.right(x) if Port.calls <= 5 else self.wrong(x)
""",
    "sleeps": _FORWARD.format("time.sleep(3600)"),
    "ends with status 0 when imported": _FORWARD.format("return x") + "\n\nos._exit(0)\n",
    "ends with status 0 when run": _FORWARD.format("os._exit(0)"),
    "leaves by sys.exit": _FORWARD.format("sys.exit(0)"),
    "writes verdicts into all pipes": """\
    def forward(self, x):
        words = json.dumps({"schema": "convspec.judgement/1", "verdict": "accepted", "forms": []}) + chr(10)
        for number in range(1, 64):
            try:
                os.write(number, words.encode())
            except OSError:
                pass
        return self.wrong(x)
""",
    "returns float16": _FORWARD.format("return self.right(x).half()"),
    "returns NaN": _FORWARD.format("return self.right(x) * float('nan')"),
    "returns more results": _FORWARD.format("y = self.right(x); return [y, y * 0]"),
    "resizes to the size that it knows": _FORWARD.format(
        "return self.right(nn.functional.interpolate(x, (22, 19), mode='bilinear'))"
    ),
    "kills its parents": """\
    def forward(self, x):
        process = os.getppid()
        for number in [process, *range(max(process - 200, 2), process)]:
            if number != os.getpid():
                try:
                    os.kill(number, signal.SIGKILL)
                except OSError:
                    pass
        return self.wrong(x)
""",
    "puts a pipe in the place of its results": """\
    def forward(self, x):
        for name in ("results", "inputs"):
            if os.path.exists(name):
                os.remove(name)
        os.mkfifo("results")
        import threading
        threading.Thread(target=lambda: open("results", "wb").close(), daemon=True).start()
        return self.wrong(x)
""",
    "takes all memory": _FORWARD.format("kept = [torch.ones(1 << 26) for _ in range(1 << 10)]; return self.right(x)"),
    "computes in bfloat16": _FORWARD.format("return self.bfloat16().right(x.bfloat16()).float()"),
}
UNSAFE_WITHOUT_THE_KERNEL = {"kills its parents"}
