import numba

# What runs in the simulator has a process of its own: test_simulator.py starts it.
collect_ignore_glob = [] if numba.config.ENABLE_CUDASIM else ["simulated_*.py"]
