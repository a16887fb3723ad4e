"""Write the archive of the pack of vectors for users without Python: ``python scripts/release_vectors.py``.

It makes ``vectors/convspec-vectors-VERSION.zip``, and adds the hash of a new version to the golden file of the tests.
The content of a version does not change: raise ``VERSION`` in ``convspec/corpora/pack/folder.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path

from convspec_onnx.messages import backend_test

from convspec.corpora import pack

ROOT = Path(__file__).parents[1]
HASHES = ROOT / "tests" / "golden" / "vector_packs.json"


def main() -> None:
    known = json.loads(HASHES.read_text("utf-8")) if HASHES.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pack"
        made = pack.write(folder, backend_test)
        if known.setdefault(str(pack.VERSION), made.sha256) != made.sha256:
            sys.exit(f"version {pack.VERSION} has another content: raise VERSION in convspec/corpora/pack/folder.py")
        archive = ROOT / "vectors" / f"convspec-vectors-{pack.VERSION}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (2020, 1, 1, 0, 0, 0))
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                file.writestr(info, path.read_bytes())
    HASHES.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{archive.name}: {made.vectors} vectors, {archive.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
