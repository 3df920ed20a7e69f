"""A finished sweep in other tools' experiment trackers."""

from __future__ import annotations

import datetime
import os
import pathlib
import struct
from typing import Any

from loupe.errors import StateError
from loupe.frames import optional
from loupe.model import Sweep, Trial
from loupe.operations import SweepData

_MLFLOW_STATUS = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "QUARANTINED": "FAILED"}
# MLflow takes so many metrics or parameters in one call.
_MLFLOW_BATCH = 500


def _settings(sweep: Sweep, trial: Trial) -> dict[str, str]:
    """What is fixed in the sweep, and the trial's own levels."""
    return {**dict(sweep.spec.settings), **trial.cell, "replicate": str(trial.replicate)}


def _milliseconds(time: datetime.datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() * 1000)


def to_mlflow(data: SweepData, tracking_uri: str, experiment: str) -> str:
    """An experiment with a run per trial that was tried: levels and settings as parameters, scores and curves as metrics. Trials whose
    run is there already are passed over, so that a broken-off export is finished by another one. The experiment's id."""
    mlflow = optional("mlflow", "mlflow", "an export to MLflow")
    client = mlflow.MlflowClient(tracking_uri=tracking_uri or None)
    entities = mlflow.entities
    name = experiment or data.sweep.name
    found = client.get_experiment_by_name(name)
    experiment_id = str(found.experiment_id if found else client.create_experiment(name, tags={"loupe.sweep": data.sweep.name}))
    for trial in data.trials:
        if trial.started is None:
            continue
        trial_name = f"{data.sweep.name}/trials/{trial.index}"
        there = client.search_runs([experiment_id], f"tags.`loupe.trial` = '{trial_name}'", max_results=1)
        if there and there[0].info.status != "RUNNING":
            continue
        if there:
            client.delete_run(there[0].info.run_id)
        start = _milliseconds(trial.started)
        end = _milliseconds(trial.ended) or start
        run = client.create_run(experiment_id, start_time=start, run_name=f"trial-{trial.index}", tags={
            "loupe.trial": trial_name, "loupe.state": trial.state, "loupe.worker": trial.worker, "loupe.failure": trial.failure[:5000]})
        settings = [entities.Param(key, value[:6000]) for key, value in _settings(data.sweep, trial).items()]
        points = data.points.get(trial.index, [])
        last = max((point.step for point in points), default=0)
        metrics = [entities.Metric(point.metric, point.value, start, point.step) for point in points]
        metrics += [entities.Metric(f"score/{score}", value, end, last) for score, value in trial.scores.items()]
        client.log_batch(run.info.run_id, params=settings[:100])
        for at in range(100, len(settings), 100):
            client.log_batch(run.info.run_id, params=settings[at:at + 100])
        for at in range(0, len(metrics), _MLFLOW_BATCH):
            client.log_batch(run.info.run_id, metrics=metrics[at:at + _MLFLOW_BATCH])
        client.set_terminated(run.info.run_id, status=_MLFLOW_STATUS.get(trial.state, "KILLED"), end_time=end)
    return experiment_id


def to_tensorboard(data: SweepData, folder: str | os.PathLike[str]) -> pathlib.Path:
    """A folder per trial with its curves, its scores, and its levels for the page "HParams". StateError where the folder has some already."""
    writers = optional("tensorboard.summary.writer.event_file_writer", "tensorboard", "an export to TensorBoard")
    events = optional("tensorboard.compat.proto.event_pb2", "tensorboard", "an export to TensorBoard")
    target = pathlib.Path(folder)
    if target.exists() and any(target.iterdir()):
        raise StateError(f"'{target}' is not empty: TensorBoard would show what is there as a part of this sweep",
                         hint="Name a folder that is new or empty.")
    for trial in data.trials:
        if trial.started is None:
            continue
        start = trial.started.timestamp()
        end = trial.ended.timestamp() if trial.ended else start
        writer = writers.EventFileWriter(str(target / f"trial-{trial.index:05d}"))
        points = data.points.get(trial.index, [])
        last = max((point.step for point in points), default=0)
        for summary in _hparams(data.sweep, trial):
            writer.add_event(events.Event(wall_time=start, summary=summary))
        for point in points:
            writer.add_event(events.Event(wall_time=start, step=point.step, summary=_scalar(point.metric, point.value)))
        for score, value in trial.scores.items():
            writer.add_event(events.Event(wall_time=end, step=last, summary=_scalar(f"score/{score}", value)))
        writer.close()
    return target


def _scalar(tag: str, value: float) -> Any:
    summaries = optional("tensorboard.compat.proto.summary_pb2", "tensorboard", "an export to TensorBoard")
    tensors = optional("tensorboard.compat.proto.tensor_pb2", "tensorboard", "an export to TensorBoard")
    types = optional("tensorboard.compat.proto.types_pb2", "tensorboard", "an export to TensorBoard")
    # Doubles, so that what TensorBoard shows is the stored number.
    tensor = tensors.TensorProto(dtype=types.DT_DOUBLE, tensor_content=struct.pack("<d", value))
    metadata = summaries.SummaryMetadata(plugin_data=summaries.SummaryMetadata.PluginData(plugin_name="scalars"),
                                         data_class=summaries.DATA_CLASS_SCALAR)
    return summaries.Summary(value=[summaries.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])


def _hparams(sweep: Sweep, trial: Trial) -> list[Any]:
    """The trial's levels and how it ended, in the messages of TensorBoard's plugin "hparams"."""
    api = optional("tensorboard.plugins.hparams.api_pb2", "tensorboard", "an export to TensorBoard")
    plugin = optional("tensorboard.plugins.hparams.plugin_data_pb2", "tensorboard", "an export to TensorBoard")
    metadata = optional("tensorboard.plugins.hparams.metadata", "tensorboard", "an export to TensorBoard")
    summaries = optional("tensorboard.compat.proto.summary_pb2", "tensorboard", "an export to TensorBoard")
    levels = {**trial.cell, "replicate": str(trial.replicate)}
    experiment = api.Experiment(
        name=sweep.name,
        hparam_infos=[api.HParamInfo(name=name, type=api.DATA_TYPE_STRING) for name in levels],
        metric_infos=[api.MetricInfo(name=api.MetricName(tag=f"score/{score}")) for score in trial.scores])
    started = plugin.SessionStartInfo(group_name=f"cell {trial.cell_index}", start_time_secs=trial.started.timestamp() if trial.started else 0)
    for name, level in levels.items():
        started.hparams[name].string_value = level
    status = api.STATUS_SUCCESS if trial.state == "SUCCEEDED" else api.STATUS_FAILURE
    ended = plugin.SessionEndInfo(status=status, end_time_secs=trial.ended.timestamp() if trial.ended else 0)
    version = metadata.PLUGIN_DATA_VERSION
    messages = [(metadata.EXPERIMENT_TAG, plugin.HParamsPluginData(version=version, experiment=experiment)),
                (metadata.SESSION_START_INFO_TAG, plugin.HParamsPluginData(version=version, session_start_info=started)),
                (metadata.SESSION_END_INFO_TAG, plugin.HParamsPluginData(version=version, session_end_info=ended))]
    return [summaries.Summary(value=[summaries.Summary.Value(tag=tag, metadata=summaries.SummaryMetadata(
        plugin_data=summaries.SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=message.SerializeToString())))])
        for tag, message in messages]
