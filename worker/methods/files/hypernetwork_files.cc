#include "worker/methods/files/hypernetwork_files.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/io/torch_archive.h"
#include "worker/io/torch_checkpoint.h"
#include "worker/models/weights.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::methods::files {
namespace {

using HyperKind = io::PickleValue::Kind;
using Dictionary = io::TorchValue::Dictionary;

constexpr const char* kNetworks[] = {"to_k", "to_v"};

struct NamedActivation {
  const char* name;
  torch::Tensor (*apply)(const torch::Tensor& x);
};

// torch.nn's classes by their names in small letters, but for "swish", which is Hardswish there.
constexpr NamedActivation kHyperActivations[] = {
    {"linear", [](const torch::Tensor& x) { return x; }},
    {"relu", [](const torch::Tensor& x) { return torch::relu(x); }},
    {"leakyrelu", [](const torch::Tensor& x) { return torch::leaky_relu(x, 0.01); }},
    {"elu", [](const torch::Tensor& x) { return torch::elu(x); }},
    {"swish", [](const torch::Tensor& x) { return torch::hardswish(x); }},
    {"tanh", [](const torch::Tensor& x) { return torch::tanh(x); }},
    {"sigmoid", [](const torch::Tensor& x) { return torch::sigmoid(x); }},
    {"gelu", [](const torch::Tensor& x) { return torch::gelu(x); }},
    {"silu", [](const torch::Tensor& x) { return torch::silu(x); }},
    {"mish", [](const torch::Tensor& x) { return torch::mish(x); }},
    {"softsign", [](const torch::Tensor& x) { return x / (1 + x.abs()); }},
};

const NamedActivation* FindActivation(const std::string& name) {
  const auto* const found = std::find_if(std::begin(kHyperActivations), std::end(kHyperActivations),
                                         [&](const NamedActivation& entry) { return name == entry.name; });
  return found == std::end(kHyperActivations) ? nullptr : found;
}

absl::Status Broken(const std::string& path, const std::string& sentence) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, sentence));
}

// ---- the settings of a .pt file, with the values that their loader takes where one is missing

class PtSettings {
 public:
  explicit PtSettings(const io::TorchObject& object) : object_(object) {}

  bool Truth(const char* key, bool otherwise) const {
    const io::PickleValue* const found = Find(key);
    return found == nullptr || found->kind == HyperKind::kNone ? otherwise : found->integer != 0;
  }
  std::string Text(const char* key) const {
    const io::PickleValue* const found = Find(key);
    return found != nullptr && found->kind == HyperKind::kText ? std::string(found->text) : "";
  }
  int64_t Integer(const char* key) const {
    const io::PickleValue* const found = Find(key);
    return found != nullptr && found->kind == HyperKind::kInteger ? found->integer : 0;
  }
  // Nothing where it is missing, or no list of numbers.
  std::optional<std::vector<double>> Numbers(const char* key) const {
    const io::PickleValue* const found = Find(key);
    if (found == nullptr || (found->kind != HyperKind::kList && found->kind != HyperKind::kTuple)) return std::nullopt;
    std::vector<double> numbers;
    for (const io::PickleValue& item : *found->items) {
      if (item.kind != HyperKind::kInteger && item.kind != HyperKind::kReal) return std::nullopt;
      numbers.push_back(item.kind == HyperKind::kInteger ? static_cast<double>(item.integer) : item.real);
    }
    return numbers;
  }

  HypernetworkShape Shape() const {
    HypernetworkShape shape;
    shape.structure = Numbers("layer_structure").value_or(std::vector<double>{1, 2, 1});
    if (const std::string name = Text("activation_func"); !name.empty()) shape.activation = name;
    shape.activate_output = Truth("activate_output", true);
    shape.layer_norm = Truth("is_layer_norm", false);
    shape.dropout = Numbers("dropout_structure").value_or(std::vector<double>());
    if (shape.dropout.empty()) shape.dropout = DropoutOfFormerFiles(shape.structure.size());
    return shape;
  }

 private:
  const io::PickleValue* Find(const char* key) const { return io::TorchObject::Find(object_.root(), key); }

  // Before there was a dropout_structure: 0.3 after all layers but the last, and the one before it unless asked for.
  std::vector<double> DropoutOfFormerFiles(size_t length) const {
    constexpr double kDropout = 0.3;
    std::vector<double> dropout(length, Truth("use_dropout", false) ? kDropout : 0);
    if (length == 0) return dropout;
    dropout.front() = dropout.back() = 0;
    if (length > 2 && !Truth("last_layer_dropout", false)) dropout[length - 2] = 0;
    return dropout;
  }

  const io::TorchObject& object_;
};

// Of the time when a network was two layers.
std::string TodaysKey(const std::string& key) {
  for (const auto& [before, now] : {std::pair{"linear1.", "linear.0."}, {"linear2.", "linear.1."}}) {
    if (key.starts_with(before)) return now + key.substr(std::string_view(before).size());
  }
  return key;
}

absl::StatusOr<std::map<std::string, torch::Tensor>> ReadNetwork(const io::TorchObject& object,
                                                                 const io::PickleValue& state,
                                                                 const HypernetworkShape& shape, int64_t width) {
  const std::string& path = object.path();
  std::map<std::string, torch::Tensor> values;
  if (state.kind != HyperKind::kDictionary) return Broken(path, fmt::format("width {}: no state dictionary", width));
  for (size_t i = 0; i < state.items->size(); i += 2) {
    const std::string key = TodaysKey(std::string((*state.items)[i].text));
    LOUPE_ASSIGN_OR_RETURN(const io::ArrayView view, object.Array((*state.items)[i + 1]));
    values[key] = models::ToTensor(view).to(torch::kFloat32);
    if (const std::string found = runtime::DescribeNotFinite(values[key]); !found.empty()) {
      return Broken(path, fmt::format("width {}: '{}': {}: the hypernetwork is broken", width, key, found));
    }
  }
  size_t expected = 0;
  for (const HypernetworkLayer& layer : LayersOf(shape, width)) {
    const bool norm = layer.kind == HypernetworkLayer::Kind::kNorm;
    if (!norm && layer.kind != HypernetworkLayer::Kind::kLinear) continue;
    expected += 2;
    const std::vector<int64_t> bias = {layer.out};
    const std::vector<int64_t> weight = norm ? bias : std::vector<int64_t>{layer.out, layer.in};
    for (const auto& [end, sizes] : {std::pair{"weight", weight}, {"bias", bias}}) {
      const auto found = values.find(fmt::format("linear.{}.{}", layer.index, end));
      if (found != values.end() && found->second.sizes().vec() == sizes) continue;
      return Broken(path, fmt::format("width {}: 'linear.{}.{}' is {}; its layer structure {} expects [{}]", width,
                                      layer.index, end, found == values.end() ? "missing" : "of another shape",
                                      fmt::join(shape.structure, ", "), fmt::join(sizes, ", ")));
    }
  }
  if (values.size() != expected) {
    return Broken(path, fmt::format("width {}: {} arrays; its layer structure {} has {}", width, values.size(),
                                    fmt::join(shape.structure, ", "), expected));
  }
  return values;
}

}  // namespace

bool IsHyperActivation(const std::string& name) { return FindActivation(name) != nullptr; }

torch::Tensor HyperActivation(const std::string& name, const torch::Tensor& x) {
  const NamedActivation* const found = FindActivation(name);
  TORCH_CHECK(found != nullptr, "a hypernetwork's function '", name, "' is not known");
  return found->apply(x);
}

std::vector<HypernetworkLayer> LayersOf(const HypernetworkShape& shape, int64_t width) {
  using enum HypernetworkLayer::Kind;
  const auto size_at = [&](size_t i) { return static_cast<int64_t>(static_cast<double>(width) * shape.structure[i]); };
  std::vector<HypernetworkLayer> layers;
  const auto add = [&](HypernetworkLayer::Kind kind, int64_t in, int64_t out, double dropout = 0) {
    layers.push_back({kind, static_cast<int64_t>(layers.size()), in, out, dropout});
  };
  for (size_t i = 0; i + 1 < shape.structure.size(); ++i) {
    const bool last = i + 2 == shape.structure.size();
    const int64_t in = size_at(i), out = size_at(i + 1);
    add(kLinear, in, out);
    if (shape.activation != "linear" && (!last || shape.activate_output)) add(kActivation, out, out);
    if (shape.layer_norm) add(kNorm, out, out);
    if (shape.dropout[i + 1] > 0) add(kDropout, out, out, shape.dropout[i + 1]);
  }
  return layers;
}

std::string WhyUnsound(const HypernetworkShape& shape) {
  const auto& structure = shape.structure;
  if (structure.size() < 2 || structure.front() != 1 || structure.back() != 1) {
    return fmt::format("'{}' must begin and end with 1", fmt::join(structure, ", "));
  }
  constexpr size_t kMostLayers = 64;
  constexpr double kWidest = 64;
  if (structure.size() > kMostLayers) return fmt::format("{} layers are more than {}", structure.size(), kMostLayers);
  for (const double multiple : structure) {
    if (!(multiple > 0 && multiple <= kWidest))
      return fmt::format("{} is not above 0 and at most {}", multiple, kWidest);
  }
  if (shape.dropout.size() != structure.size() || shape.dropout.back() != 0) {
    return "its dropout must have as many numbers as its layer structure, the last of them 0";
  }
  for (const double p : shape.dropout) {
    if (!(p >= 0 && p < 1)) return fmt::format("a dropout of {}; expected 0 or more and less than 1", p);
  }
  if (!IsHyperActivation(shape.activation)) return fmt::format("the function '{}' is not known", shape.activation);
  return "";
}

absl::StatusOr<std::vector<double>> ParseStructure(const std::string& text) {
  std::vector<double> structure;
  const std::vector<std::string> parts = absl::StrSplit(text, absl::ByAnyChar(", "), absl::SkipEmpty());
  for (const std::string& part : parts) {
    double number = 0;
    if (!absl::SimpleAtod(part, &number)) {
      return absl::InvalidArgumentError(fmt::format("'{}' is no number; expected widths like '1, 2, 1'", part));
    }
    structure.push_back(number);
  }
  return structure;
}

std::map<std::string, torch::Tensor> HypernetworkArrays(const HypernetworkFile& file) {
  std::map<std::string, torch::Tensor> arrays;
  for (const auto& [width, networks] : file.widths) {
    for (size_t part = 0; part < networks.size(); ++part) {
      for (const auto& [name, value] : networks[part]) {
        arrays[fmt::format("hypernetwork.{}.{}.{}", width, kNetworks[part], name)] = value;
      }
    }
  }
  return arrays;
}

HypernetworkFile HypernetworkFileOf(const std::map<std::string, torch::Tensor>& arrays,
                                    const HypernetworkShape& shape) {
  HypernetworkFile file;
  file.shape = shape;
  for (const auto& [name, value] : arrays) {
    // hypernetwork.{width}.{to_k|to_v}.linear.0.weight
    const std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits('.', 3));
    int64_t width = 0;
    TORCH_CHECK(parts.size() == 4 && parts[0] == "hypernetwork" && absl::SimpleAtoi(parts[1], &width) &&
                    (parts[2] == kNetworks[0] || parts[2] == kNetworks[1]),
                "'", name, "' is no array of a hypernetwork");
    file.widths[width][parts[2] == kNetworks[1] ? 1 : 0][parts[3]] = value;
  }
  return file;
}

absl::StatusOr<HypernetworkFile> ReadHypernetwork(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const io::TorchObject object, io::TorchObject::Open(path));
  if (object.root().kind != HyperKind::kDictionary)
    return Broken(path, "no dictionary; expected a hypernetwork's .pt file");
  const PtSettings settings(object);
  HypernetworkFile file;
  file.shape = settings.Shape();
  if (const std::string why = WhyUnsound(file.shape); !why.empty()) {
    return Broken(path, fmt::format("its layer_structure or settings cannot be read: {}", why));
  }
  const std::vector<io::PickleValue>& items = *object.root().items;
  for (size_t i = 0; i < items.size(); i += 2) {
    if (items[i].kind != HyperKind::kInteger) continue;
    const int64_t width = items[i].integer;
    const io::PickleValue& networks = items[i + 1];
    constexpr int64_t kWidest = 1 << 20;
    if (width < 1 || width > kWidest || (networks.kind != HyperKind::kTuple && networks.kind != HyperKind::kList) ||
        networks.items->size() != 2) {
      return Broken(path, fmt::format("its entry {} is no pair of networks", width));
    }
    for (size_t part = 0; part < 2; ++part) {
      LOUPE_ASSIGN_OR_RETURN(file.widths[width][part], ReadNetwork(object, (*networks.items)[part], file.shape, width));
    }
  }
  if (file.widths.empty()) return Broken(path, "has no networks under a width; expected a hypernetwork's .pt file");
  if (const std::string init = settings.Text("weight_initialization"); !init.empty()) file.weight_init = init;
  file.name = settings.Text("name");
  file.step = settings.Integer("step");
  file.checkpoint = settings.Text("sd_checkpoint_name");
  return file;
}

absl::Status WriteHypernetwork(const std::string& path, const HypernetworkFile& file) {
  const auto text = [](const std::string& value) { return io::TorchValue{value}; };
  const auto numbers = [](const std::vector<double>& values) {
    io::TorchValue::List list;
    for (const double value : values) {
      // Whole ones as such: their form shows "1, 2, 1".
      if (value == std::floor(value)) {
        list.push_back({static_cast<int64_t>(value)});
      } else {
        list.push_back({value});
      }
    }
    return io::TorchValue{std::move(list)};
  };
  std::vector<models::TensorArrays> kept;
  Dictionary root;
  for (const auto& [width, networks] : file.widths) {
    io::TorchValue::Tuple pair;
    for (const auto& values : networks) {
      kept.push_back(models::ToArrays(values));
      Dictionary state;
      for (const auto& [name, view] : kept.back().views) state.entries.push_back({text(name), {view}});
      pair.items.push_back({std::move(state)});
    }
    root.entries.push_back({{width}, {std::move(pair)}});
  }
  const bool drops = std::any_of(file.shape.dropout.begin(), file.shape.dropout.end(), [](double p) { return p > 0; });
  const auto add = [&](const char* key, io::TorchValue value) {
    root.entries.push_back({text(key), std::move(value)});
  };
  add("step", {file.step});
  add("name", text(file.name));
  add("layer_structure", numbers(file.shape.structure));
  add("activation_func", text(file.shape.activation));
  add("is_layer_norm", {file.shape.layer_norm});
  add("weight_initialization", text(file.weight_init));
  add("use_dropout", {drops});
  add("dropout_structure", numbers(file.shape.dropout));
  add("last_layer_dropout", {drops});
  add("activate_output", {file.shape.activate_output});
  add("sd_checkpoint", {});
  add("sd_checkpoint_name", file.checkpoint.empty() ? io::TorchValue{} : text(file.checkpoint));
  return io::WriteTorchValue(path, {std::move(root)});
}

}  // namespace loupe::worker::methods::files
