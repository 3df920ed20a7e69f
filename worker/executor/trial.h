// One attempt of one trial, from settings to scores: prepare, train, sample, score.
#pragma once

#include <map>
#include <string>

#include "worker/base/model_store.h"
#include "worker/executor/attempt.h"
#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task_registry.h"

namespace loupe::worker {

// Runs the attempt to its end. Artifacts that it hands over:
//   samples.png            the generated pictures, side by side
//   embeddings.npy         their embeddings; and embeddings-base.npy, embeddings-subject.npy, embeddings-class.npy,
//                          embeddings-text.npy (and -own, -prior, -prior-base where the task has them): everything that
//                          the scores are computed from
//   dino.npy, inception.npy   the same by the ViT and by Inception, where the settings name them
//   noise-difference.png   DreamBooth with class pictures: where the predicted noise differs between the prompts with
//                          and without the identifier (sampling/prediction_difference.h), tuned left, untuned right
//   adapter.safetensors    the trained values, with the whole cell in the metadata
// Every score comes twice: "clip_i" of the tuned model, "clip_i_base" of the untuned one from the same noise. A
// sentence on how to read a score is in the provenance under "warning.{score}".
//
// Throws UserError, Stopped (after writing a checkpoint, when training had begun), c10::Error or std::exception.
AttemptOutcome RunTrial(const AttemptSpec& spec, AttemptObserver& observer, ModelStore& models, SharedInputs& inputs,
                        Tasks& tasks);

}  // namespace loupe::worker
