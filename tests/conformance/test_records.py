"""Record and replay: the results of two runs are compared, and a damaged record is reported."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load, save

import convspec
from convspec import Case, ConvSpec, RecordError, RequestError
from convspec.cli.reports import run_terminal
from convspec.conformance import journal
from convspec.conformance.records import array_files
from convspec.conformance.records.compare import _mismatch
from convspec.reference import Verdict
from tests import prepared

GOOD, COARSE, WRONG = (f"convspec_fakes:{name}" for name in ("GOOD", "COARSE", "WRONG_NUMBERS"))
CASES = [
    Case(ConvSpec(3, 5, (3, 5), padding=(1, 2)), (2, 3, 9, 11), seed=1, name="odd"),
    Case(ConvSpec(3, 4, (1, 3), stride=(2, 1), bias=False), (2, 3, 5, 7), seed=2),
    Case(ConvSpec(2, 4, (3, 2), transposed=True), (1, 2, 4, 5), dtype="float64"),
    Case(ConvSpec(3, 4, (9, 9)), (1, 3, 5, 7), name="refused: the kernel is larger than the input"),
    Case(ConvSpec(2, 3, (1, 2, 2)), (1, 2, 3, 4, 5), name="unsupported"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A record with gradients, and the report of its run."""
    folder = tmp_path_factory.mktemp("record") / "run"
    return folder, convspec.check(CASES, [GOOD], gradients=True, record=folder)


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole[0], tmp_path / "copy"))


def entries(folder, change=None):
    """The results in the journal; those that ``change`` returns anew are written back."""
    path = next(folder.glob("run*.jsonl"))
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    if change is not None:
        lines = [change(line) if "verdict" in line else line for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [line for line in lines if "verdict" in line]


def recorded(entry, **wanted):
    return "outputs" in entry["evidence"].get("record", {}) and all(entry[k] == v for k, v in wanted.items())


def put(folder, arrays):
    """Arrays as a file of the record; its name."""
    content = bytes(save(arrays))
    name = sha256(content).hexdigest()
    (folder / "arrays" / f"{name}.safetensors").write_bytes(content)
    return name


def plant(folder, wanted, change):
    """Another output for the first result like ``wanted``; how many results it is."""
    done = []

    def planted(entry):
        if recorded(entry, **wanted) and not done:
            kept = entry["evidence"]["record"]
            arrays = load((folder / "arrays" / f"{kept['outputs']}.safetensors").read_bytes())
            output = arrays["output"].copy()
            change(output)
            kept["outputs"] = put(folder, {"output": output})
            done.append(entry)
        return entry

    entries(folder, planted)
    return done[0]


# -- record, and replay on the same machine ----------------------------------------------------------------------------


def test_what_is_replayed_on_the_same_machine_is_equal_bit_for_bit(whole, copy):
    folder, report = whole
    assert not report.unexpected
    again = convspec.replay(copy)
    assert again.summary["agree"] == len(again.results) == sum(recorded(entry) for entry in entries(folder)) == 44
    assert {result.evidence["recorded"]["differing"] for result in again.results} == {0}
    assert {result.direction for result in again.results} == {"forward", "input", "kernel", "bias"}
    assert {result.case.dtype for result in again.results} == {"float32", "float64"}
    assert run_terminal.notes(again) == [
        "replay: 44 of 44 outputs are bit-for-bit equal to the recorded ones",
        "replay: recorded results without an output, not compared: 4 × no output, 16 × unsupported",
    ]


def test_what_has_no_output_is_counted(whole):
    about = convspec.replay(whole[0]).environment["replay"]
    assert about["without"] == {"no output": 4, "unsupported": 16}
    assert about["recorded"][str(whole[0] / "run.jsonl")]["versions"]["fakeframe"] == "2.5.0"


def test_it_is_computed_from_the_recorded_inputs_not_from_the_seed(copy):
    """The same input twice as large: the output that follows from it is twice as large, but for the bias."""

    def change(entry):
        if recorded(entry, direction="forward", data="random") and entry["seed"] == 2:
            kept = entry["evidence"]["record"]
            inputs = load((copy / "arrays" / f"{kept['inputs']}.safetensors").read_bytes())
            output = load((copy / "arrays" / f"{kept['outputs']}.safetensors").read_bytes())["output"]
            kept["inputs"] = put(copy, {**inputs, "x": 2 * inputs["x"]})
            kept["outputs"] = put(copy, {"output": 2 * output})
        return entry

    entries(copy, change)
    report = convspec.replay(copy)
    assert report.summary["agree"] == len(report.results) == 44


def test_the_lines_fit_the_schemas(whole):
    schema = json.loads(files("convspec.conformance.records").joinpath("record.schema.json").read_text("utf-8"))
    kept, line = jsonschema.Draft202012Validator(schema), jsonschema.Draft202012Validator(journal.json_schema())
    for entry in (whole[0] / "run.jsonl").read_bytes().splitlines():
        line.validate(json.loads(entry))
    found = [entry["evidence"]["record"] for entry in entries(whole[0]) if "record" in entry["evidence"]]
    for one in found:
        kept.validate(one)
        assert not kept.is_valid({**one, "strange": 1})
        assert not kept.is_valid({**one, "inputs": "../" + one["inputs"]})
    kept.validate({"left_out": "the limit of 1GiB is reached"})


def test_every_file_is_named_after_what_is_in_it_and_equal_arrays_are_there_once(whole):
    found = [*(whole[0] / "arrays").glob("*.safetensors")]
    assert all(sha256(path.read_bytes()).hexdigest() == path.stem for path in found)
    named = [entry["evidence"]["record"] for entry in entries(whole[0]) if recorded(entry)]
    assert {path.stem for path in found} == {entry[key] for entry in named for key in ("inputs", "outputs")}
    assert len(found) < 44


# -- divergences -------------------------------------------------------------------------------------------------------


def test_one_changed_element_is_named_with_the_side_that_is_further_off(copy):
    """One in each kind of result, in one replay."""

    def change(output):
        output[(0,) * (output.ndim - 1) + (1,)] += 1

    pairs = [(data, direction) for data in ("exact", "random") for direction in ("forward", "input", "kernel", "bias")]
    planted = [plant(copy, {"data": d, "direction": r, "layout": "NHWC", "seed": 1}, change) for d, r in pairs]
    report = convspec.replay(copy, cases=[CASES[0].id])
    assert {entry["case"] for entry in planted} == {CASES[0].id}
    assert report.summary["disagree"] == len(report.unexpected) == len(pairs)
    assert {(r.case.data, r.direction, r.case.layout) for r in report.unexpected} == {(*pair, "NHWC") for pair in pairs}
    for wrong in report.unexpected:
        assert wrong.evidence["wrong"] == 1
        assert wrong.evidence["index"] == [0] * (len(wrong.evidence["index"]) - 1) + [1]
        assert wrong.evidence["recorded"]["differing"] == 1
        assert wrong.evidence["recorded"]["further"] == "recorded"
        assert {key: wrong.evidence["recorded"][key] for key in ("by", "device", "precision", "verdict")} == {
            "by": GOOD, "device": "cpu", "precision": "shipped", "verdict": "agree",
        }  # fmt: skip
        assert wrong.evidence["recorded"]["oracle"] == {"here": "agree", "recorded": "disagree"}
        assert "the recorded run has the larger error" in wrong.reason


def test_a_last_bit_is_what_errors_allow_but_for_exact_data(copy):
    def change(output):
        output[0, 0, 0, 0] = np.nextafter(output[0, 0, 0, 0], np.float32(np.inf))

    for data in ("random", "exact"):
        plant(copy, {"data": data, "direction": "forward", "seed": 1}, change)
    report = convspec.replay(copy, cases=[CASES[0].id])
    other = [(r.case.data, r.verdict) for r in report.results if r.evidence["recorded"]["differing"] == 1]
    assert sorted(other) == [("exact", "disagree"), ("random", "agree")]
    assert report.summary["disagree"] == 1


def test_another_adapter_is_held_against_all_and_its_own_fault_is_told(whole):
    report = convspec.replay(whole[0], [WRONG], recorded=[GOOD], cases=[CASES[0].id])
    wrong = [result for result in report.results if result.verdict == "disagree"]
    assert len(wrong) == 4  # the other results are gradients
    for result in wrong:
        assert result.evidence["recorded"]["further"] == "here"
        assert result.evidence["recorded"]["by"] == GOOD
        assert "this run has the larger error" in result.reason
    assert convspec.replay(whole[0], [COARSE], cases=[CASES[0].id]).summary["disagree"] == 4


def test_what_the_recorded_run_declared_of_itself_declares_the_departure(tmp_path):
    """Wrong there by a declared gap: right here is no unexpected result; as wrong here, the gap is not closed."""
    cases = [Case(ConvSpec(2, n, (1, 3)), (1, 2, 4, 5)) for n in (3, 4)]
    convspec.check(cases, ["convspec_fakes:GAP_OF_HALVES"], record=tmp_path)
    report = convspec.replay(tmp_path, [GOOD])
    assert report.summary["disagree"] == 4
    assert {result.gap for result in report.results if result.verdict == "disagree"} == {"g"}
    assert not report.unexpected
    same = convspec.replay(tmp_path)
    assert (same.summary["agree"], same.unexpected) == (8, ())


def test_a_journal_gives_the_report_of_its_replay(whole, tmp_path):
    report = convspec.replay(whole[0], ["convspec_fakes:RAISES"], cases=[CASES[0].id], journal=tmp_path / "r.jsonl")
    assert report.summary["error"] == len(report.unexpected) == 4
    assert journal.read(tmp_path / "r.jsonl").report().to_dict() == report.to_dict()


def test_a_replay_goes_on_after_it_was_cut_short(whole, tmp_path):
    path = tmp_path / "replay.jsonl"
    report = convspec.replay(whole[0], [WRONG], cases=[CASES[0].id], journal=path)
    os.truncate(path, path.stat().st_size * 2 // 3)
    again = convspec.resume(path)
    assert [r.to_dict() | {"seconds": 0} for r in again.results] == [
        r.to_dict() | {"seconds": 0} for r in report.results
    ]


# -- limits, kills, shards ---------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_counted_and_never_written(tmp_path):
    limit = 20_000
    report = convspec.check(CASES[:2], [GOOD], gradients=True, record=tmp_path, record_limit=limit)
    used = sum(path.stat().st_size for path in (tmp_path / "arrays").glob("*.safetensors"))
    left = [result for result in report.results if "left_out" in result.evidence["record"]]
    assert 0 < used <= limit
    assert 0 < len(left) < len(report.results)
    (sentence,) = run_terminal.notes(report)
    assert sentence.endswith(f"{len(left)} left out: {len(left)} × the limit of 20000B is reached")
    again = convspec.replay(tmp_path)
    assert again.summary["agree"] == len(report.results) - len(left)
    assert again.environment["replay"]["without"] == {"the limit of 20000B is reached": len(left)}


def test_a_run_that_was_cut_short_goes_on_with_its_record(whole, copy):
    path = copy / "run.jsonl"
    os.truncate(path, path.stat().st_size // 2)
    for file in [*(copy / "arrays").glob("*.safetensors")][::2]:
        file.unlink()  # some that the lines name are gone: that is an error of the replay
    (copy / "arrays" / f".x.safetensors.{2**22 + 1}.part").write_bytes(b"half of a file")
    convspec.resume(path)
    assert not [*(copy / "arrays").glob("*.part")]
    report = convspec.replay(copy)
    assert len(report.results) == 44
    assert {result.verdict for result in report.results} == {"agree", "error"}
    assert all("No such file" in result.reason for result in report.results if result.verdict == "error")


@pytest.mark.slow
def test_after_kill_9_the_record_is_whole(tmp_path):
    corpus, folder = tmp_path / "cases.jsonl", tmp_path / "record"
    corpus.write_text("".join(case.varied(seed=n).to_json() + "\n" for n in range(15) for case in CASES[:2]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "fakes"), *sys.path])}
    words = "-m", "convspec", "check", "--corpus", corpus, "--adapters", GOOD, "--record", folder
    process = prepared.Program(*words, env=environment, stderr=subprocess.DEVNULL)
    path = folder / "run.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 40):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(entries_or_torn(path)) < 120
    convspec.resume(path)
    report = convspec.replay(folder)
    assert report.summary["agree"] == len(report.results) == 120
    assert {result.evidence["recorded"]["differing"] for result in report.results} == {0}


def entries_or_torn(path):
    return [line for line in path.read_bytes().split(b"\n")[:-1] if b'"verdict"' in line]


@pytest.mark.parametrize("together", [False, True], ids=["two folders", "copied together"])
def test_shards_are_replayed_together(tmp_path, together):
    places = [tmp_path / "one", tmp_path / ("one" if together else "two")]
    for number, place in enumerate(places, 1):
        convspec.check(CASES[:2], [GOOD], record=place, shard=(number, 2))
    report = convspec.replay(places[:1] if together else places)
    assert report.summary["agree"] == len(report.results) == 8
    assert {result.case.seed for result in report.results} == {1, 2}


def test_a_record_is_not_written_over_and_keeps_its_own_journal(whole, tmp_path):
    with pytest.raises(RequestError, match="already exists; resume that run"):
        convspec.check(CASES, [GOOD], record=whole[0])
    with pytest.raises(RequestError, match="leave journal and executor out"):
        convspec.check(CASES, [GOOD], record=tmp_path, journal=tmp_path / "run.jsonl")
    with pytest.raises(RequestError, match="record_limit=0 must be more than 0"):
        convspec.check(CASES, [GOOD], record=tmp_path, record_limit=0)


def test_a_disk_that_takes_no_more_leaves_out_and_says_so(tmp_path):
    reason = array_files._write_new(tmp_path / "none", {"0" * 64: b"content"}, 100)
    assert reason == "cannot be written: No such file or directory"
    (tmp_path / "arrays").mkdir()
    assert array_files._write_new(tmp_path / "arrays", {"0" * 64: b"content"}, 6) == "the limit of 6B is reached"
    assert array_files._write_new(tmp_path / "arrays", {"0" * 64: b"content"}, 7) == ""
    assert {path.name for path in (tmp_path / "arrays").iterdir()} == {".used", f"{'0' * 64}.safetensors"}


# -- damage: an array's file costs its results -------------------------------------------------------------------------


def truncated(path):
    os.truncate(path, path.stat().st_size - 1)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def linked(path):
    away = path.parent.parent.parent / "elsewhere.safetensors"
    path.rename(away)
    path.symlink_to(away)


def piped(path):
    path.unlink()
    os.mkfifo(path)


def grown(path):
    with path.open("ab") as file:
        file.truncate(1 << 40)


DAMAGES = {
    truncated: "SHA-256 must be its name: it was changed or truncated",
    flipped: "SHA-256 must be its name",
    Path.unlink: "must be a readable file that is not a link: No such file",
    linked: "must be a readable file that is not a link",
    piped: "must be a regular file",
    grown: r"must have at most \d+ bytes, but has 1099511627776",
}


FOREIGN = {
    b"not at all": "must be a safetensors file",
    b"\xff" * 64: "must be a safetensors file",
    save({"other": np.zeros(3, np.float32)}): "must hold {'output'",
    save({"output": np.zeros((2, 5, 9), np.float32)}): "must hold {'output'",
    save({"output": np.zeros((2, 5, 9, 11), np.int16)}): "must be float16 or float32 or float64, but some are int16",
}


def test_a_damaged_file_costs_the_results_that_need_it(copy):
    """Every damage at once, each of another result's file."""
    first = [e for e in entries(copy) if recorded(e, seed=1)]  # of exact and random data, forward and gradients
    last = next(e for e in entries(copy) if recorded(e, seed=2, direction="forward"))
    broken, wanted = set(), {}
    for entry in first:
        name = entry["evidence"]["record"]["outputs"]
        if name not in wanted and len(broken) < len(DAMAGES):
            damage, wanted[name] = [*DAMAGES.items()][len(broken)]
            damage(copy / "arrays" / f"{name}.safetensors")
            broken.add(name)
    inputs = last["evidence"]["record"]["inputs"]
    flipped(copy / "arrays" / f"{inputs}.safetensors")
    wanted[inputs] = DAMAGES[flipped]
    named = [e["evidence"]["record"][part] for e in entries(copy) if recorded(e) for part in ("inputs", "outputs")]
    users = {name: named.count(name) for name in wanted}
    assert len(broken) == len(DAMAGES)
    report = convspec.replay(copy)
    failed = [result for result in report.results if result.verdict != "agree"]
    assert {result.verdict for result in failed} == {"error"}
    assert len(failed) == len(report.unexpected) == sum(users.values()) < len(report.results) == 44
    for name, words in wanted.items():
        told = [result.reason for result in failed if f"{name}.safetensors: it" in result.reason]
        assert len(told) == users[name]
        assert all(re.search(words, reason) for reason in told)


def test_a_file_that_is_no_output_of_the_layer_is_an_error(tmp_path):
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for content, words in FOREIGN.items():
        name = sha256(content).hexdigest()
        (arrays / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(RecordError) as caught:
            array_files.read_output(str(tmp_path), name, CASES[0], "forward")
        assert words in str(caught.value)
        assert caught.value.path == arrays / f"{name}.safetensors"


def test_a_folder_of_arrays_that_is_a_link_is_not_followed(copy):
    (copy / "arrays").rename(copy.parent / "elsewhere")
    (copy / "arrays").symlink_to(copy.parent / "elsewhere")
    report = convspec.replay(copy, cases=[CASES[1].id])
    assert {result.verdict for result in report.results} == {"error"}
    assert "must be a folder, but is a link" in report.results[0].reason


# -- damage: a journal that breaks a rule is refused -------------------------------------------------------------------

BROKEN = {
    "a way out": ({"outputs": "../../../etc/passwd"}, "must be the 64 hexadecimal digits of a SHA-256"),
    "no text": ({"inputs": 3}, "must be the 64 hexadecimal digits"),
    "no inputs": ({"inputs": None}, "must be the 64 hexadecimal digits"),
    "no arithmetic": ({"arithmetic": {}}, "no 'accumulator'"),
    "an unknown format": (
        {"arithmetic": {"accumulator": "float8", "output_roundings": 1, "flushes_subnormals": False, "inputs": None,
                        "stored": None}}, "unknown dtype 'float8'",
    ),
    "roundings without end": (
        {"arithmetic": {"accumulator": "float32", "output_roundings": 10**9, "flushes_subnormals": False,
                        "inputs": None, "stored": None}}, "output_roundings=1000000000 must be from 1 to 65536",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_line_that_breaks_the_schema_is_refused(copy, kind):
    changes, words = BROKEN[kind]
    found = []

    def change(entry):
        if recorded(entry) and not found:
            entry["evidence"]["record"] |= changes
            found.append(entry["case"])
        return entry

    entries(copy, change)
    with pytest.raises(RecordError) as caught:
        convspec.replay(copy)
    assert f"record {copy / 'run.jsonl'}: case {found[0]} by" in str(caught.value)
    assert words in str(caught.value)


NO_LAYERS = {
    "dtype": ("float7", "dtype='float7' must be one of"),
    "layout": ("HWNC", 'layout must be one of NCHW, NHWC, but is "HWNC"'),
    "data": ("mine", "data must be one of exact, random"),
    "input_shape": ([2, 3, 9], "must be (N, 3, 2 spatial sizes)"),
    "seed": (5, "case must be "),
}


@pytest.mark.parametrize("key", NO_LAYERS)
def test_a_result_of_no_layer_is_left_out_and_no_pass(copy, key):
    value, words = NO_LAYERS[key]
    lines = entries(copy)
    broken = [number for number, entry in enumerate(lines, 3) if recorded(entry, seed=1)]
    entries(copy, lambda entry: {**entry, key: value} if recorded(entry, seed=1) else entry)
    report = convspec.replay(copy)
    path = copy / "run.jsonl"
    assert [line.partition(": left out: line ")[0] for line in report.missing] == [str(path)] * len(broken)
    assert [int(line.partition("left out: line ")[2].partition(":")[0]) for line in report.missing] == broken
    assert all(words in line for line in report.missing)
    assert report.environment["replay"]["without"]["not reached"] == len(broken)
    assert 1 not in {result.case.seed for result in report.results}


def test_a_layer_without_an_output_is_refused(copy):
    path, shape = copy / "run.jsonl", [2, 3, 1, 1]
    head, cases, *rest = path.read_bytes().splitlines(keepends=True)
    asked = json.loads(cases)
    asked["cases"][1]["input_shape"] = shape
    path.write_bytes(b"".join([head, json.dumps(asked).encode() + b"\n", *rest]))
    changed = {"input_shape": shape, "case": CASES[1].varied(input_shape=tuple(shape)).id}
    entries(copy, lambda entry: entry | changed if recorded(entry, seed=2) else entry)
    with pytest.raises(RecordError, match="kernel"):
        convspec.replay(copy)


def test_a_line_that_cannot_be_read_is_named_and_no_pass(copy):
    number = len(entries(copy)) + 2
    path = copy / "run.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = b"\0" * 40 + b"\n"
    path.write_bytes(b"".join(lines))
    report = convspec.replay(copy, cases=[CASES[1].id])
    words = "it must be JSON: a power cut or an edit has damaged it"
    assert report.missing == (f"{path}: left out: line {number}: {words}",)
    assert report.environment["replay"]["without"]["not reached"] == 1


def test_repeated_and_contradicting_lines_of_a_record(copy):
    path = copy / "run.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines[2:], 2) if recorded(json.loads(line), seed=1))
    contradiction = json.loads(lines[at]) | {"verdict": "disagree", "reason": "value"}
    path.write_bytes(b"".join([*lines, lines[at + 1], json.dumps(contradiction).encode() + b"\n"]))
    clean = len(convspec.replay([copy], cases=[CASES[1].id]).results)
    report = convspec.replay(copy)
    words = f"contradicting verdicts: line {at + 1}: agree, line {len(lines) + 2}: disagree; neither counts"
    assert report.missing == (f"{path}: case {CASES[0].id}: {words}",)
    assert report.notes == (f"{path}: counted once: 1 repeated verdicts: line {len(lines) + 1}",)
    assert report.environment["replay"]["without"]["contradicted"] == 1
    assert "not reached" not in report.environment["replay"]["without"]
    assert len([result for result in report.results if result.case.seed == 2]) == clean


def test_what_is_no_record_is_refused(whole, copy, tmp_path):
    with pytest.raises(RequestError, match=r"is not a record: it has no run\.jsonl"):
        convspec.replay(tmp_path / "none")
    convspec.check(CASES[:1], [GOOD], journal=tmp_path / "run.jsonl")
    with pytest.raises(RecordError, match="must be the journal of a run with --record"):
        convspec.replay(tmp_path)
    (tmp_path / "run.jsonl").unlink()
    (tmp_path / "run.jsonl").symlink_to(copy / "run.jsonl")
    with pytest.raises(RecordError, match="must be a file, but is a link"):
        convspec.replay(tmp_path)
    path = copy / "run.jsonl"
    path.write_bytes(path.read_bytes().replace(b"convspec.record/1", b"convspec.record/2"))
    with pytest.raises(RequestError, match=r"request\.record\.schema must be convspec\.record/1"):
        convspec.replay(copy)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(RequestError, match="is not a convspec journal"):
        convspec.replay(copy)


def test_there_must_be_something_to_compare(whole):
    with pytest.raises(RequestError, match=r"nothing to compare with: the record has 3 cases with outputs by .*GOOD"):
        convspec.replay(whole[0], recorded=["torch"])
    with pytest.raises(RequestError, match="not installed"):
        convspec.replay(whole[0], ["convspec_fakes:ABSENT"])
    with pytest.raises(RequestError, match="has no device 'cuda' here, only cpu"):
        convspec.replay(whole[0], devices=["cuda"])


@pytest.mark.parametrize(("here", "there", "words"), [
    ({"rms_q": 9.0}, {"rms_q": 2.0}, ("here", "this run has the larger error")),
    ({"rms_q": 2.0}, {"rms_q": "9.0"}, ("recorded", "the recorded run has the larger error")),
    ({"rms_q": 2.0}, {"rms_q": 2.0}, ("neither", "both have the same error")),
    ({"rms_q": float("nan")}, {"rms_q": 9.0}, ("here", "this run has the larger error")),
    ({"rms_q": 0.5}, {}, ("here", "this run has the larger error")),
])  # fmt: skip
def test_of_two_results_with_too_many_small_errors_the_oracle_names_the_less_precise(here, there, words):
    mutual = Verdict("disagree", "precision: RMS 9")
    sides = [Verdict("agree", evidence=evidence) for evidence in (here, there)]
    further, reason = _mismatch(mutual, *[np.zeros(3)] * 3, *sides)
    assert (further, reason) == (words[0], f"precision: RMS 9; by the oracle, {words[1]}")
