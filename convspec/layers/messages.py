"""Messages of frameworks explained: an error or warning as people paste it, what it means, and the fix.

The known messages are the tables of each adapter's ``messages.toml``. A pattern finds a message in any text, a whole
traceback too, and names its numbers; the fix is a sentence with these numbers filled in.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from convspec.contract import Predicate, adapter, adapters
from convspec.layers.remarks.port import NAMES, framework

LONGEST = 20_000  # characters of a text that are read, its end: the message comes last
SHORTEST = 18  # a shorter message is known only in a text that names its framework
QUOTES = str.maketrans("‘’“”`", "''\"\"'")
Numbers = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A known message found in a text.

    Attributes:
        id: the anchor of the message on the site.
        framework: the framework that prints it, or the runtime or release where it was reported.
        title: the message in short.
        message: the part of the text in which it was found.
        fix: what to change, with the numbers of the text; empty where the meaning says it.
        means: the meaning, with the numbers of an example.
        parameters: the parameters of a layer that it is about.
        numbers: the numbers and words of the text, by name.
    """

    id: str
    framework: str
    title: str
    message: str
    fix: str
    means: str
    parameters: tuple[str, ...] = ()
    numbers: Numbers = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON has it."""
        return {**asdict(self), "parameters": list(self.parameters)}

    def __str__(self) -> str:
        fix = f"What to do: {self.fix}\n" if self.fix else ""
        return f"{self.framework}: {self.title}\n{fix}Meaning: {self.means}"


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of a framework, ready to be looked for."""

    entry: Mapping[str, Any]
    framework: str
    roots: tuple[str, ...]
    pattern: re.Pattern[str]
    values: Mapping[str, Predicate]
    when: Predicate | None
    fixes: tuple[tuple[Predicate | None, str], ...]

    @classmethod
    def parse(cls, entry: Mapping[str, Any], name: str) -> _Message:
        pattern = re.compile(entry["pattern"].translate(QUOTES) if "pattern" in entry else pattern_of(entry["says"]))
        names = pattern.groupindex.keys() | entry.get("let", {}).keys()
        shapes = {name for name in names if name.endswith("_shape")}
        read = functools.partial(Predicate.parse, scalars=names - shapes, vectors=shapes)
        fixes = [(read(fix["when"]) if "when" in fix else None, fix["text"]) for fix in entry.get("fix", ())]
        values = {name: read(text) for name, text in entry.get("let", {}).items()}
        when = read(entry["when"]) if "when" in entry else None
        own = adapter(name)
        return cls(entry, framework(name), (*own.requires, own.name), pattern, values, when, tuple(fixes))

    def find(self, text: str) -> tuple[tuple[float, bool, int], re.Match[str], Numbers] | None:
        """Return how sure the last occurrence is, the match, and its numbers; None where there is none."""
        occurrences = [*self.pattern.finditer(text)]
        if not occurrences:
            return None
        found = occurrences[-1]
        numbers = {name: _value(name, said) for name, said in found.groupdict().items() if said is not None}
        for name, value in self.values.items():
            numbers[name] = value.run(numbers)
        named = sum(bool(re.search(rf"\b{root}\b", text)) for root in self.roots) / len(self.roots)
        length = found.end() - found.start()
        if (length < SHORTEST and not named) or (self.when is not None and not self.when(numbers)):
            return None
        return (named, self.when is not None, length), found, numbers

    def explain(self, said: str, numbers: Numbers) -> Explanation:
        fix = next((text for when, text in self.fixes if when is None or when(numbers)), "")
        entry, where = self.entry, self.entry.get("where") or NAMES.get(self.framework, self.framework)
        return Explanation(entry["id"], where, entry["title"], said, fix.format_map(numbers), entry["means"],
                           tuple(entry["parameters"]), numbers)  # fmt: skip


def explain(text: str) -> list[Explanation]:
    """Return what the messages in a text mean, the surest first; none if no message is known.

    The text is an error or a warning of any framework, or a whole traceback or log. Where one message has several
    meanings, or several frameworks print it and the text does not name one, each is explained.

    Example:
        >>> found = explain("running_mean should contain 16 elements not 8")
        >>> found[0].fix
        'The tensor has 16 channels, the norm was created for 8: `nn.BatchNorm2d(16)`.'
    """
    text = plain(text[-LONGEST:])
    found = [(*where, message) for message in _known() if (where := message.find(text))]
    found.sort(key=lambda one: one[0], reverse=True)
    kept: list[tuple[tuple[float, bool, int], re.Match[str]]] = []
    explained = []
    for sure, match, numbers, message in found:
        over = [other for other, at in kept if at.start() < match.end() and match.start() < at.end()]
        if all(other == sure for other in over):
            kept.append((sure, match))
            explained.append(message.explain(match[0], numbers))
    return explained


def plain(text: str) -> str:
    """Return a text with single spaces and straight quotes."""
    return " ".join(text.split()).translate(QUOTES)


def pattern_of(says: str) -> str:
    """Return the pattern of a message in which every number may differ, and ``…`` stands for anything."""
    parts = re.split(r"(\d+(?:, \d+)*|…)", plain(says))
    return "".join(re.escape(p) if i % 2 == 0 else r"\d+(?:, \d+)*" if p != "…" else ".*?" for i, p in enumerate(parts))


def _value(name: str, said: str) -> Any:
    if name.endswith("_shape"):
        return tuple(int(n) if n.isdigit() else None for n in re.findall(r"\w+", said))
    return int(said) if re.fullmatch(r"-?\d+", said) else said


@functools.cache
def _known() -> tuple[_Message, ...]:
    return tuple(_messages())


def _messages() -> Iterator[_Message]:
    """Yield every message of every adapter; adapters of one package have one file."""
    read = set()
    for name in adapters():
        text = adapter(name).messages()
        if text not in read:
            tables = tomllib.loads(text)
            yield from (_Message.parse(e, name) for e in (*tables.get("error", ()), *tables.get("reported", ())))
        read.add(text)
