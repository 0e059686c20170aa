"""A tour on the built-in digits: fit, look at opinions, find conflicts, refuse, save and load.

Each cell begins with a line of ``# %%``, so that editors run the file as a notebook. As a script:

    python examples/tutorial.py
"""

# %% [markdown]
# # Several views, one answer, and how far to trust it
#
# `digits` holds 1797 small images of handwritten digits as six views: the pixels and five sets of
# features computed from them. Three of them are taken here; a row of each describes the same image.

# %%
import tempfile
from pathlib import Path

import numpy as np

from rcml_misa import MultiView, RCMLMISAClassifier, load, load_dataset

data = load_dataset("digits")
views = MultiView({name: data.views[name] for name in ("pixels", "projections", "dct")})
train, test = np.arange(0, 1200), np.arange(1200, 1797)
X_train, y_train = views.take(train), data.target[train]
X_test, y_test = views.take(test), data.target[test]
print(views)

# %% [markdown]
# ## Fit
#
# The estimator is scikit-learn's: parameters in the constructor, `fit`, `predict`, `score`. Views
# come as a dict, a list, a `MultiView`, or one table with `views=` telling the column groups.

# %%
model = RCMLMISAClassifier(random_state=0).fit(X_train, y_train)
accuracy = model.score(X_test, y_test)
print(f"accuracy on {len(test)} new rows: {100 * accuracy:.1f} %")

# %% [markdown]
# ## Opinions
#
# `predict_opinion` gives belief for each class and, beside it, the uncertainty that is left when
# evidence is scarce: belief and uncertainty add up to 1. There is a fused opinion, and one of each
# view.

# %%
opinion = model.predict_opinion(X_test)
total = opinion.belief.sum(axis=1) + opinion.uncertainty
print(f"belief plus uncertainty: {total.min():.6f} to {total.max():.6f}")
print(opinion.to_frame(per_view=False).head())
for name in opinion.views:
    own = opinion.of(name)
    share = (own.evidence.argmax(axis=1) == y_test).mean()
    print(f"{name} alone: {100 * share:.1f} % right, uncertainty {own.uncertainty.mean():.2f}")

# %% [markdown]
# ## Conflicting samples
#
# Two views are in conflict if both are sure, of different classes. Here one view of some rows is
# replaced by that of the next digit, as if sensors had been pointed at different things; the
# degree of conflict finds these rows, and the uncertainty rises on them.

# %%
rng = np.random.default_rng(0)
swapped = rng.choice(len(test), size=60, replace=False)
dct = np.array(X_test["dct"])
dct[swapped] = dct[[np.flatnonzero(y_test == (y_test[row] + 1) % 10)[0] for row in swapped]]
mixed = model.predict_opinion(X_test.replace({"dct": dct}))
suspects = np.argsort(-mixed.conflict)[: len(swapped)]
found = np.isin(suspects, swapped).mean()
print(f"{100 * found:.0f} % of the {len(swapped)} rows in greatest conflict are swapped ones")
pairs, counts = np.unique(mixed.most_conflicting[suspects], return_counts=True)
print("between:", ", ".join(f"{pair} {count}" for pair, count in zip(pairs, counts, strict=True)))
rise = mixed.uncertainty[swapped].mean() - opinion.uncertainty[swapped].mean()
print(f"uncertainty of the swapped rows rises by {rise:.2f}")

# %% [markdown]
# ## Which view lies
#
# `suspect` names the view that does not seem to belong to its row. It is learnt from mismatches
# that `fit` makes of train rows; about one clean row in twenty has a suspect too. Where it is
# clear, `without_suspect` follows the other views (`suspect="exclude"` does so in `predict`).

# %%
broken = mixed.suspect[swapped]
caught = (broken == "dct").mean()
accused = (opinion.suspect != "").mean()
print(f"dct is named in {100 * caught:.0f} % of the swapped rows")
print(f"any view is named in {100 * accused:.0f} % of the clean rows")
without_dct = mixed.without_suspect
for name, stated in (("all views", mixed), ("without suspects", without_dct)):
    share = (stated.predicted == y_test)[swapped].mean()
    unsure = stated.uncertainty[swapped].mean()
    print(f"swapped rows, {name}: {100 * share:.0f} % right, uncertainty {unsure:.2f}")

# %% [markdown]
# ## Refuse the doubtful
#
# Keep the nine tenths of the rows whose class is most probable. What is refused is worth a second
# look by someone else. The calibrated probability finds plain errors best, the uncertainty rows
# whose views contradict each other or are far from the train rows.

# %%
surest = opinion.probability.max(axis=1)
kept = surest >= np.quantile(surest, 0.1)
right = opinion.predicted == y_test
print(f"all rows: {100 * right.mean():.1f} % right")
print(f"kept {100 * kept.mean():.0f} %: {100 * right[kept].mean():.1f} % right")
print(f"refused: {100 * right[~kept].mean():.1f} % right")

# %% [markdown]
# ## A view that is missing
#
# A view may be None, or NaN in some rows. It then says nothing, and what rests on all views counts
# for less.

# %%
without = model.predict_opinion({**dict(X_test.items()), "pixels": None})
print(f"without pixels: {100 * (without.predicted == y_test).mean():.1f} % right")
print(f"uncertainty {opinion.uncertainty.mean():.2f} -> {without.uncertainty.mean():.2f}")

# %% [markdown]
# ## Save and load
#
# The whole model becomes one file that cannot execute code; it predicts the same, bit for bit.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.rcml"
    model.save(path)
    again = load(path)
    size = path.stat().st_size / 1e6
same = bool(np.array_equal(again.predict_proba(X_test), model.predict_proba(X_test)))
print(f"{size:.1f} MB; the same probabilities: {same}")
