// Methods whose files are their parameters, as a rule as they are: each slot's values under the parameter's name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "worker/methods/attachment.h"
#include "worker/methods/file_parts.h"
#include "worker/methods/layer_names.h"
#include "worker/methods/method.h"

namespace loupe::worker::methods {

// Its maker fills parameters_ (file name, value [count, …], first slot) and attachment_; all but Merge follows from
// these.
class ParameterMethod : public Method {
 public:
  int64_t slots() const override { return range_.total; }
  const std::vector<NamedParameter>& parameters() const override { return parameters_; }
  void SetEnabled(bool enabled) override { attachment_.SetEnabled(enabled); }

  std::map<std::string, torch::Tensor> Export(int64_t slot) const override { return ExportParts(PartsOf(slot)); }
  void Import(int64_t slot, const std::map<std::string, torch::Tensor>& arrays) override {
    ImportParts(PartsOf(slot), arrays);
  }

 protected:
  explicit ParameterMethod(const nn::SlotRange& range) : range_(range), attachment_(range) {}

  // A slot's values by their names in a file; views.
  virtual std::vector<FilePart> PartsOf(int64_t slot) const {
    std::vector<FilePart> parts;
    for (const NamedParameter& parameter : parameters_) {
      if (parameter.Holds(slot)) parts.push_back({parameter.name, parameter.value[slot - parameter.first_slot]});
    }
    return parts;
  }

  const nn::SlotRange range_;
  std::vector<NamedParameter> parameters_;
  Attachment attachment_;
};

// Where the parameters are arrays of the base's own, under the base's names for them.
class OwnWeights : public ParameterMethod {
 public:
  absl::Status Merge(int64_t slot, BaseWeights& weights) const override {
    return ReplaceWeights(PartsOf(slot), weights);
  }

 protected:
  using ParameterMethod::ParameterMethod;
};

}  // namespace loupe::worker::methods
