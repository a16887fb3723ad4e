"""Files that others remove at the same moment are no error."""

from __future__ import annotations

import os

from convspec.conformance.journal import Journal
from convspec.conformance.records import array_files


def test_a_journal_that_is_gone_already_can_be_discarded(tmp_path):
    path = tmp_path / "run.jsonl"
    path.touch()
    journal = Journal(path, os.open(path, os.O_WRONLY), 0)
    for _ in range(2):
        journal.discard()
    journal.close()
    assert not path.exists()


def test_a_part_that_another_process_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    folder = tmp_path / array_files.ARRAYS
    folder.mkdir()
    parts = [folder / f".{name}.{process}.part" for name, process in (("a", 999_999_999), ("b", os.getpid()))]
    for part in parts:
        part.touch()

    def alive(process):
        if process != os.getpid():
            parts[0].unlink()
        return process == os.getpid()

    monkeypatch.setattr(array_files, "alive", alive)
    array_files.prepare(tmp_path)
    assert [path.name for path in folder.iterdir()] == [parts[1].name]
