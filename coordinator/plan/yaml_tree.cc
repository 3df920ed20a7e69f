#include "coordinator/plan/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>
#include <unordered_map>

#include "fmt/format.h"

namespace loupe::coordinator::plan {
namespace {

FilePlace PlaceOf(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {.line = mark.line + 1, .column = mark.column + 1};
}

// Carries a refusal out of yaml-cpp's parser, which has no other way to be stopped. Caught in ParseYaml.
struct YamlRefusal {
  FileProblem problem;
};

// Builds the tree from the parser's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(YamlNode& root) { open_.push_back({.node = &root}); }

  bool is_empty() const { return nodes_ == 0; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Add(mark, "", anchor, YamlNode::Kind::kNull); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { RefuseAnchor(mark); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Open& parent = open_.back();
    if (parent.node->kind == YamlNode::Kind::kMap && !parent.has_key) {
      CheckHeader(mark, tag, anchor);
      const auto [first, is_new] = parent.keys.try_emplace(value, PlaceOf(mark).line);
      if (!is_new) {
        throw YamlRefusal{{PlaceOf(mark), fmt::format("the key '{}' stands here a second time (first in line {})",
                                                      value, first->second)}};
      }
      parent.node->entries.push_back({.key = value, .key_place = PlaceOf(mark)});
      parent.has_key = true;
      return;
    }
    Add(mark, tag, anchor, YamlNode::Kind::kScalar).text = value;
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Descend(mark, Add(mark, tag, anchor, YamlNode::Kind::kList));
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Descend(mark, Add(mark, tag, anchor, YamlNode::Kind::kMap));
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  // A collection whose end has not been seen. The pointers stay good: a parent's vector does not grow while a child of
  // its last element is open.
  struct Open {
    YamlNode* node;
    bool has_key = false;
    std::unordered_map<std::string, int> keys;  // of a map: key -> line
  };

  [[noreturn]] static void RefuseAnchor(const YAML::Mark& mark) {
    throw YamlRefusal{
        {PlaceOf(mark), "anchors and aliases ('&', '*') are not allowed in a sweep file; write the values out"}};
  }

  void CheckHeader(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) RefuseAnchor(mark);
    // "?" and "!" are yaml-cpp's own marks of a plain and a quoted scalar.
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw YamlRefusal{{PlaceOf(mark), fmt::format("the tag '{}' is not allowed in a sweep file", tag)}};
    }
    if (++nodes_ > kMaxYamlNodes) {
      throw YamlRefusal{{PlaceOf(mark), fmt::format("the file has more than {} entries", kMaxYamlNodes)}};
    }
  }

  YamlNode& Add(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    CheckHeader(mark, tag, anchor);
    Open& parent = open_.back();
    YamlNode* node = parent.node;
    if (parent.node->kind == YamlNode::Kind::kList) {
      node = &parent.node->items.emplace_back();
    } else if (parent.node->kind == YamlNode::Kind::kMap) {
      if (!parent.has_key) throw YamlRefusal{{PlaceOf(mark), "expected a key here: a word followed by ':'"}};
      node = &parent.node->entries.back().value;
      parent.has_key = false;
    }
    node->kind = kind;
    node->place = PlaceOf(mark);
    return *node;
  }

  void Descend(const YAML::Mark& mark, YamlNode& node) {
    if (static_cast<int>(open_.size()) > kMaxYamlDepth) {
      throw YamlRefusal{{PlaceOf(mark), fmt::format("more than {} levels of nesting", kMaxYamlDepth)}};
    }
    open_.push_back({.node = &node});
  }

  size_t nodes_ = 0;
  std::vector<Open> open_;
};

// Byte offset of the first byte that is not well-formed UTF-8 (RFC 3629) or is a NUL; npos when there is none.
size_t FirstInvalidByte(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    size_t length = 1;
    if (lead == 0) return i;
    if (lead >= 0x80) {
      if (lead < 0xc2 || lead > 0xf4) return i;
      length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
      if (i + length > text.size()) return i;
      for (size_t j = 1; j < length; ++j) {
        if ((static_cast<unsigned char>(text[i + j]) & 0xc0) != 0x80) return i;
      }
      const auto second = static_cast<unsigned char>(text[i + 1]);
      const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
      const bool outside = (lead == 0xed && second >= 0xa0) || (lead == 0xf4 && second >= 0x90);
      if (overlong || outside) return i;
    }
    i += length;
  }
  return std::string_view::npos;
}

FilePlace PlaceOfByte(std::string_view text, size_t offset) {
  FilePlace place{1, 1};
  for (size_t i = 0; i < offset; ++i) {
    place = text[i] == '\n' ? FilePlace{place.line + 1, 1} : FilePlace{place.line, place.column + 1};
  }
  return place;
}

absl::Status Fail(FileProblem found, FileProblem& problem) {
  problem = std::move(found);
  return absl::InvalidArgumentError(problem.message);
}

}  // namespace

std::string YamlNode::Describe() const {
  switch (kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return fmt::format("'{}'", text.size() <= 60 ? text : text.substr(0, 57) + "...");
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a mapping";
  }
  return "";
}

absl::StatusOr<YamlNode> ParseYaml(std::string_view text, FileProblem& problem) {
  if (text.size() > kMaxYamlBytes) {
    return Fail({{}, fmt::format("the file has {} bytes, more than the {} allowed", text.size(), kMaxYamlBytes)},
                problem);
  }
  if (const size_t invalid = FirstInvalidByte(text); invalid != std::string_view::npos) {
    return Fail({PlaceOfByte(text, invalid), "the file is not UTF-8 text from here on"}, problem);
  }
  YamlNode root;
  TreeBuilder builder(root);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return root;
    YamlNode second_root;
    TreeBuilder second(second_root);
    if (parser.HandleNextDocument(second) && !second.is_empty()) {
      return Fail({second_root.place, "a second document begins here; a sweep file holds one"}, problem);
    }
  } catch (const YamlRefusal& refusal) {
    return Fail(refusal.problem, problem);
  } catch (const YAML::Exception& error) {
    return Fail({PlaceOf(error.mark), fmt::format("not valid YAML: {}", error.msg)}, problem);
  }
  return root;
}

}  // namespace loupe::coordinator::plan
