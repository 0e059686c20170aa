"""A raw table of two views, gaps and labels, for tests of pipelines."""

import numpy as np
import pandas as pd


def raw(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 2
    frame = pd.DataFrame(
        {
            "a__x": rng.normal(size=rows) + 2 * y,
            "a__town": rng.choice(["ulm", "bonn", "kiel"], rows),
            "b__day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, rows), "D"),
            "b__z": rng.normal(size=rows) - y,
        }
    )
    frame.loc[::7, "a__x"] = np.nan
    return frame, np.array(["no", "yes"])[y]
