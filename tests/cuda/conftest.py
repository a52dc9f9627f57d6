import sys

import numba

# What runs in the simulator has a process of its own: test_simulator.py starts it.
collect_ignore_glob = [] if numba.config.ENABLE_CUDASIM else ["simulated_*.py"]

if numba.config.ENABLE_CUDASIM:
    # Its threads wait for one another, and for one that asks them over and over: with Python's 5 ms a turn, nets take
    # five times as long (17 s instead of 3).
    sys.setswitchinterval(2e-4)
