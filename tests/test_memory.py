"""What a round's end holds in memory that no file stands behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "memory.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_round_of_many_mapped_updates_takes_the_memory_of_one(tmp_path):
    """Forty agents of 12 MB: all rows would be 480 MB."""
    sizes = ["--agents", "40", "--files", "4", "--values", "3000000"]
    prepare = [sys.executable, str(BENCHMARK), *sizes, "--prepare", str(tmp_path)]
    subprocess.run(prepare, check=True)
    play = [sys.executable, str(BENCHMARK), "--round", str(tmp_path)]
    done = subprocess.run(play, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["peak"] < 12e6 + 15e6
