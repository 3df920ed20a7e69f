"""Writes the two .npy files that npy_file_test reads, with numpy itself."""
import os
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
np.save(f"{here}/two_by_three.npy", np.array([[1, 2, 3], [4, 5, -0.5]], dtype=np.float32))
with open(f"{here}/wide_version_2.npy", "wb") as f:
    np.lib.format.write_array(f, np.array([0.5, -2.0, 1e10]), version=(2, 0))
