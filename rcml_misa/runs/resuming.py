"""Runs that a folder of records has already, and those that are left to make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rcml_misa.datasets import Dataset
from rcml_misa.results import RunRecord, RunStore
from rcml_misa.runs.single import current_versions
from rcml_misa.runs.tasks import ENDINGS, Task, output_path, task_key
from rcml_misa.storage import file_sha256

__all__ = ["Resumption", "resume"]


@dataclass(frozen=True)
class Resumption:
    """Division of planned tasks into those that have a record and those that lack one.

    Attributes
    ----------
    records : dict of str to RunRecord
        Key to the record that stands for its task.
    missing : list of Task
        Tasks to carry out; one whose record lacks files asks for those that it had, too.
    """

    records: dict[str, RunRecord] = field(default_factory=dict)
    missing: list[Task] = field(default_factory=list)

    def describe_versions(self) -> str:
        """Say which records were made with other versions than those at work; "" for none."""
        versions = current_versions()
        changes: Counter[str] = Counter()
        other = 0
        for record in self.records.values():
            differing = [
                f"{name} {number}, not {versions[name]}"
                for name, number in record.versions.items()
                if name in versions and number != versions[name]
            ]
            changes.update(differing)
            other += bool(differing)
        if not other:
            return ""
        runs = "1 record was" if other == 1 else f"{other} records were"
        return f"{runs} made with {'; '.join(changes)}: --fresh trains anew"


def resume(
    datasets: Sequence[Dataset], tasks: Sequence[Task], store: RunStore, *, fresh: bool = False
) -> Resumption:
    """Find the records of tasks in a folder that is locked, and put those aside that won't do.

    A record stands for a task if their keys are equal and what the task is to leave is there: the
    files beside the record exist and have the checksums that it states. With `fresh` none does.
    """
    keys = [task_key(datasets[task.dataset], task) for task in tasks]
    earlier = store.find(set(keys))
    result = Resumption()
    replaced: dict[str, Path] = {}
    for key, task in zip(keys, tasks, strict=True):
        path, record = earlier.get(key, (None, None))
        if path is None or record is None:
            result.missing.append(task)
        elif not fresh and _has_outputs(path, record, task):
            result.records[key] = replace(record, default=task.recipe.default)
        else:
            replaced[key] = path
            outputs = task.outputs if fresh else task.outputs.joined(record.outputs)
            result.missing.append(replace(task, outputs=outputs))
    store.replace(replaced.values())
    return result


def _has_outputs(path: Path, record: RunRecord, task: Task) -> bool:
    """Whether what a task is to leave beside its scores is there and whole."""
    for name in task.outputs.names:
        if name not in record.outputs:
            return False
        if name in ENDINGS:
            file = output_path(path, name)
            try:
                if not file.is_file() or file_sha256(file) != record.outputs[name]:
                    return False
            except OSError:
                return False
    return True
