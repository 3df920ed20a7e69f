#include "worker/executor/trial_artifacts.h"

#include <torch/version.h>

#include <stdexcept>

#include "analysis/metrics/npy_file.h"
#include "worker/methods/files/adapter_file.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {

void TrialArtifacts::Picture(const std::string& name, const io::Image& picture) const {
  const std::string path = spec_.scratch_folder + "/" + name;
  runtime::ThrowIfError(io::WritePng(path, picture));
  HandOver(name, "image/png", path);
}

void TrialArtifacts::Features(const std::string& of, const score::PictureFeatures& features) const {
  Embeddings("embeddings" + of, features.clip);
  for (const auto& [network, rows] : features.others) Embeddings(network + of, rows);
}

void TrialArtifacts::Embeddings(const std::string& stem, const analysis::metrics::FeatureMatrix& embeddings) const {
  if (embeddings.rows == 0) return;
  const std::string path = spec_.scratch_folder + "/" + stem + ".npy";
  runtime::ThrowIfError(analysis::metrics::WriteNpyFile(path, embeddings));
  HandOver(stem + ".npy", "application/x-npy", path);
}

void TrialArtifacts::Adapter(const methods::Method& method, const std::string& base_sha256) const {
  methods::files::AdapterFile file;
  file.arrays = method.Export(0);
  file.settings = spec_.settings;
  file.sweep_seed = spec_.sweep_seed;
  file.replicate = spec_.replicate;
  file.steps = spec_.settings.Integer("budget.steps");
  file.trial = spec_.trial;
  file.base_sha256 = base_sha256;
  file.cell = spec_.cell;
  file.provenance = {{"torch", TORCH_VERSION}, {"loupe", LOUPE_VERSION}};
  const std::string path = spec_.scratch_folder + "/adapter.safetensors";
  runtime::ThrowIfError(methods::files::WriteAdapterFile(path, file));
  HandOver("adapter.safetensors", "application/x-safetensors", path);
}

void TrialArtifacts::HandOver(const std::string& name, const std::string& media_type, const std::string& path) const {
  const absl::Status status = observer_.OnArtifact(name, media_type, path);
  if (absl::IsAborted(status)) throw runtime::Stopped();
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
}

}  // namespace loupe::worker::executor
