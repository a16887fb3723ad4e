#!/usr/bin/env bash
# Check a GPU in one command, on a machine that has PyTorch or JAX (Flax, Equinox), perhaps ONNX Runtime, and no network.
#
#   gpu_check.sh [--cpu] [--adapters A,B] [--seconds N] [WHEEL] [FOLDER]
#
# It needs two files: itself, and a wheel of convspec (default: beside it, or in dist/). Nothing is installed. Results go to
# FOLDER (default: $OUT, else gpu-results): at most 8 files and 16 MiB, which `convspec report FOLDER/NAME.jsonl` reads
# anywhere. It ends within 8 minutes: each part has a time limit, the parts come in order of worth, and the table at the
# end says what was cut. The same command again, with the same FOLDER, resumes what was cut.
#
#   --cpu   a rehearsal on the CPU: small samples, within 2.5 minutes
set -u

cpu=0 adapters="" seconds="" words=()
while [ $# -gt 0 ]; do
    case $1 in
        --cpu) cpu=1 ;;
        --adapters) adapters=$2 && shift ;;
        --seconds) seconds=$2 && shift ;;
        -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 2 ;;
        *) words+=("$1") ;;
    esac
    shift
done
here=$(cd "$(dirname "$0")" && pwd)
wheel=${words[0]:-$(ls -t "$here"/convspec-*.whl "$here"/../dist/convspec-*.whl 2>/dev/null | head -n 1)}
folder=${words[1]:-${OUT:-gpu-results}}
python=${PYTHON:-python3}
[ -f "$wheel" ] || { echo "gpu_check: no wheel of convspec: name it, or put it beside this script" >&2; exit 2; }
mkdir -p "$folder" || exit 2
folder=$(cd "$folder" && pwd)
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

"$python" -m zipfile -e "$wheel" "$work/library" || exit 2
export PYTHONPATH="$work/library${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=3
export XLA_PYTHON_CLIENT_PREALLOCATE=false OMP_NUM_THREADS=1
cat >"$work/part.py" <<'PYTHON'
"""One part of the check: ``part.py NAME FOLDER WORK DEVICE ADAPTERS``; verdicts go into the journal FOLDER/NAME.jsonl."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

name, folder, work, device, wanted = sys.argv[1:]
folder, work, small = Path(folder), Path(work), device == "cpu"
MIB = 1 << 20
LEFT_OUT = ("flax-linen", "keras-jax", "keras-torch", "onnx-reference", "openvino")  # they compute as others do, or on CPUs
LIMITS = {"probes": 1.5, "float32": 6.5, "half": 4.5, "replay": 1, "large": 0.7, "variants": 1}  # MiB


def mend():
    """Use pip's own copy of packaging, where there is no other."""
    try:
        import packaging  # noqa: F401
    except ModuleNotFoundError:
        import pip._vendor.packaging as own

        (work / "library" / "packaging").symlink_to(Path(own.__file__).parent)


def machine():
    """Write the versions, and the devices of each adapter; those are asked in processes of their own."""
    from convspec.contract import registry

    code = "import json, sys, convspec; a = convspec.adapter(sys.argv[1]); print(json.dumps([a.devices(), a.versions()]))"
    earlier = json.loads((folder / "machine.json").read_text()) if (folder / "machine.json").exists() else {}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    names = wanted.split(",") if wanted else [n for n in registry.importable() if n not in LEFT_OUT]
    asked = {name: subprocess.Popen([sys.executable, "-c", code, name], **pipes) for name in names}
    found = {}
    for adapter, process in asked.items():
        out, problems = process.communicate()
        try:
            devices, versions = json.loads(out.splitlines()[-1])
            found[adapter] = {"devices": devices, "versions": versions}
        except (ValueError, IndexError):
            found[adapter] = {"devices": [], "problem": (problems.strip().splitlines() or ["no answer"])[-1][:300]}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    try:
        cards = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        cards = []
    import convspec

    about = {"convspec": convspec.__version__, "python": sys.version.split()[0], "cards": cards, "adapters": found, "parts": earlier.get("parts", [])}
    (folder / "machine.json").write_text(json.dumps(about, indent=1))
    for adapter, one in found.items():
        print(adapter, *one["devices"], one.get("problem", ""), *(f"{k} {v}" for k, v in one.get("versions", {}).items()))
    print(*cards, sep="\n")


def able():
    """The adapters that have the device."""
    try:
        known = json.loads((folder / "machine.json").read_text())["adapters"]
    except OSError:  # the first part was cut
        known = {}
    return [name for name, one in known.items() if device in one["devices"]]


def cases(corpus, sample):
    from convspec import corpora

    found = list(corpora.load(corpus))
    return found if sample is None or sample >= len(found) else corpora.sample(found, sample, 0)


def stop_when_large(_):
    if journal.stat().st_size > LIMITS[name] * MIB:
        print(f"cut: the journal has reached {LIMITS[name]} MiB")
        raise KeyboardInterrupt


def check(chosen, adapters=None, **options):
    """Run or resume; the journal is the result."""
    import convspec

    adapters = able() if adapters is None else adapters
    if not adapters:
        print(f"skipped: no adapter has the device {device}")
        sys.exit(4)
    jobs = min(os.cpu_count() or 1, 2 if small else 6)
    if journal.exists():
        report = convspec.resume(journal, jobs=jobs, progress=stop_when_large)
    else:
        report = convspec.check(chosen, adapters, devices=[device], journal=journal, jobs=jobs, progress=stop_when_large,
                                timeout=60, **options)  # fmt: skip
    finish(report)


def finish(report):
    print({verdict: count for verdict, count in report.summary.items() if count}, f"unexpected: {len(report.unexpected)}")
    sys.exit(6 if report.unexpected else 0)


def replay():
    """Record on the CPU, run the same arrays on the device."""
    import convspec

    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError:
        print("skipped: safetensors is not installed")
        sys.exit(4)
    adapters = able()
    if not adapters:
        print(f"skipped: no adapter has the device {device}")
        sys.exit(4)
    jobs = min(os.cpu_count() or 1, 2 if small else 6)
    convspec.check(cases("features", 6 if small else 60), adapters, devices=["cpu"], record=work / "record", jobs=jobs)
    journal.unlink(missing_ok=True)  # of other records
    finish(convspec.replay(work / "record", devices=[device], jobs=jobs, journal=journal, progress=stop_when_large))


def variants():
    import convspec

    return [f"{one}:{v}" for one in able() for v in convspec.adapter(one).variants if v != convspec.adapter(one).variant]


def interrupt(*_):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, interrupt)
journal = folder / f"{name}.jsonl"
mend()
FEATURES = 8 if small else None
PARTS = {
    "machine": machine,
    "probes": lambda: check(cases("tutorial", 3 if small else None) + cases("features", 4 if small else 40),
                            dtypes=["float32"], data=["probe"], precisions=["shipped", "strict"]),
    "float32": lambda: check(cases("features", FEATURES), dtypes=["float32"], gradients=True),
    "half": lambda: check(cases("features", FEATURES or 100), data=["exact"], dtypes=["float16", "bfloat16"],
                          gradients=True),
    "replay": replay,
    "large": lambda: check(cases("timm", 2 if small else 80), data=["metamorphic"]),
    "variants": lambda: check(cases("features", 6 if small else 80), variants()),
}
try:
    PARTS[name]()
except KeyboardInterrupt:
    sys.exit(3)
PYTHON

[ "$cpu" = 1 ] && device=cpu || device=cuda
[ -n "$seconds" ] || { [ "$cpu" = 1 ] && seconds=150 || seconds=450; }
began=$SECONDS failed=0
log="$folder/log.txt"
: >>"$log"
sed -n 's/^ *"\([a-z0-9]* finished[^"(]*\).*/\1/p' "$folder/machine.json" >"$work/earlier.txt" 2>/dev/null

# part NAME SHARE: run a part for at most SHARE hundredths of all the time, and no longer than is left
part() {
    local limit=$((seconds * $2 / 100)) left=$((seconds - (SECONDS - began) - 5)) start=$SECONDS status words
    [ "$limit" -gt "$left" ] && limit=$left
    if [ "$1" != machine ] && words=$(grep "^$1 finished" "$work/earlier.txt"); then
        words="${words#* }" words="${words% }"
        [ "${words%earlier}" = "$words" ] && words="$words earlier"
    elif [ "$limit" -lt 5 ]; then
        words="cut: no time was left"
    else
        echo "== $1, at most $limit s" | tee -a "$log"
        timeout -k 5 "$limit" "$python" "$work/part.py" "$1" "$folder" "$work" "$device" "$adapters" >"$work/out.txt" 2>&1
        status=$?
        cat "$work/out.txt" >>"$log"
        tail -n 3 "$work/out.txt"
        case $status in
            0) words="finished" ;;
            6) words="finished with something unexpected" failed=1 ;;
            3 | 124 | 137 | 143) words="cut: the same command resumes it" ;;
            4) words=$(tail -n 1 "$work/out.txt") ;;
            *) words="failed: $(tail -n 1 "$work/out.txt" | cut -c 1-200)" failed=1 ;;
        esac
    fi
    printf '%s\n' "$1 ${words% } ($((SECONDS - start)) s)" >>"$work/parts.txt"
}

part machine 15
part probes 15
part float32 30
part half 20
part replay 10
part large 10
part variants 10
echo "== parts" | tee -a "$log"
tee -a "$log" <"$work/parts.txt"
"$python" - "$folder" "$work/parts.txt" <<'PYTHON'
import json
import sys
from pathlib import Path

folder, parts = Path(sys.argv[1]), Path(sys.argv[2]).read_text().splitlines()
file, log = folder / "machine.json", folder / "log.txt"
about = json.loads(file.read_text()) if file.exists() else {}
file.write_text(json.dumps({**about, "parts": parts}, indent=1))
log.write_bytes(log.read_bytes()[-300_000:])
files = [p for p in folder.iterdir() if p.is_file()]
print(f"{len(files)} files, {sum(p.stat().st_size for p in files) / 2**20:.1f} MiB in {folder}")
PYTHON
exit $failed
