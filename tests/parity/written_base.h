// A base that make_reference.py wrote, loaded, beside what diffusers makes of it.
#pragma once

#include <torch/utils.h>

#include <map>
#include <optional>
#include <string>

#include "tests/parity/reference.h"
#include "worker/base/base_model.h"

namespace loupe::worker {

// By its folder's name; the arrays lie beside it.
class WrittenBase : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    torch::manual_seed(0);
    auto base = base::LoadBase(ReferenceFolder() + "/" + GetParam());
    ASSERT_TRUE(base.ok()) << base.status();
    base_.emplace(*std::move(base));
    expected_ = ReadReference(std::string(GetParam()) + ".safetensors");
  }

  std::optional<base::BaseModel> base_;
  std::map<std::string, torch::Tensor> expected_;
};

}  // namespace loupe::worker
