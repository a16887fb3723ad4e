import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """A folder with a Keras network and its conversions."""
    folder = tmp_path_factory.mktemp("converted")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    script = Path(__file__).with_name("convert_network.py")
    command = [sys.executable, script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder
