import os

import hypothesis
import matplotlib

matplotlib.use("Agg")
os.environ["COLUMNS"] = "100"  # whatever the terminal that the tests are run in

# No deadline: the first example may compile. The same examples in every run: a failure comes from the change at hand.
hypothesis.settings.register_profile("stabsim", deadline=None, derandomize=True)
hypothesis.settings.load_profile("stabsim")
