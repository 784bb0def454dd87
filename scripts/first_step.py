"""Prints the seconds from launch to the first learner step, with an empty cache of compiled kernels.

python scripts/first_step.py [CONFIG]
"""

import os
import subprocess
import sys
import tempfile
import time

CODE = """
import sys, time
import rlsuite.learning.learner as learner
from rlsuite import api
step = learner.Learner.step
def first(*arguments, **named):
    out = step(*arguments, **named)
    print(time.time() - float(sys.argv[2]))
    sys.stdout.flush()
    import os
    os._exit(0)
learner.Learner.step = first
api.train(sys.argv[1], {}, run_dir=sys.argv[3])
"""

if __name__ == "__main__":
    config = sys.argv[1] if len(sys.argv) > 1 else "atari/pong"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        subprocess.run([sys.executable, "-c", CODE, config, str(time.time()), folder + "/run"], env=environment, check=True)
