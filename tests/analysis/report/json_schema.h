// Checks a JSON value against the part of JSON Schema that docs/report.schema.json uses; an unknown keyword is an
// error, so that nothing in the schema is silently ignored.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace loupe::analysis::report {

class JsonSchema {
 public:
  explicit JsonSchema(nlohmann::json schema) : root_(std::move(schema)) {}

  // One sentence per violation.
  std::vector<std::string> Violations(const nlohmann::json& value) const {
    std::vector<std::string> out;
    Check(root_, value, "$", out);
    return out;
  }

 private:
  using Json = nlohmann::json;

  static bool HasType(const Json& value, const std::string& type) {
    if (type == "null") return value.is_null();
    if (type == "boolean") return value.is_boolean();
    if (type == "string") return value.is_string();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "array") return value.is_array();
    return type == "object" && value.is_object();
  }

  void Check(const Json& schema, const Json& value, const std::string& at, std::vector<std::string>& out) const {
    static const std::set<std::string> kKnown = {
        "$schema",    "title", "description", "x-sweep-only", "type",  "required", "additionalProperties",
        "properties", "items", "$ref",        "$defs",        "oneOf", "enum"};
    for (const auto& [keyword, unused] : schema.items()) {
      if (!kKnown.contains(keyword)) out.push_back(at + ": the schema uses the unknown keyword " + keyword);
    }
    if (schema.contains("$ref")) {
      Check(root_.at(Json::json_pointer(schema["$ref"].get<std::string>().substr(1))), value, at, out);
      return;
    }
    if (schema.contains("oneOf")) {
      int matches = 0;
      for (const Json& option : schema["oneOf"]) {
        std::vector<std::string> violations;
        Check(option, value, at, violations);
        matches += violations.empty();
      }
      if (matches != 1) out.push_back(at + ": fits " + std::to_string(matches) + " of the alternatives");
    }
    if (schema.contains("type")) {
      const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
      bool fits = false;
      for (const Json& type : types) fits = fits || HasType(value, type.get<std::string>());
      if (!fits) out.push_back(at + ": " + value.dump().substr(0, 60) + " is not " + types.dump());
    }
    if (schema.contains("enum")) {
      bool found = false;
      for (const Json& option : schema["enum"]) found = found || option == value;
      if (!found) out.push_back(at + ": " + value.dump() + " is not among the values allowed");
    }
    if (value.is_object()) CheckObject(schema, value, at, out);
    if (value.is_array() && schema.contains("items")) {
      for (size_t i = 0; i < value.size(); ++i)
        Check(schema["items"], value[i], at + "[" + std::to_string(i) + "]", out);
    }
  }

  void CheckObject(const Json& schema, const Json& value, const std::string& at, std::vector<std::string>& out) const {
    for (const Json& key : schema.value("required", Json::array())) {
      if (!value.contains(key.get<std::string>())) out.push_back(at + ": lacks " + key.get<std::string>());
    }
    for (const auto& [key, member] : value.items()) {
      const bool described = schema.contains("properties") && schema["properties"].contains(key);
      if (described) {
        Check(schema["properties"][key], member, at + "." + key, out);
      } else if (schema.contains("additionalProperties")) {
        const Json& additional = schema["additionalProperties"];
        if (additional.is_boolean()) {
          if (!additional.get<bool>()) out.push_back(at + ": " + key + " is not in the schema");
        } else {
          Check(additional, member, at + "." + key, out);
        }
      }
    }
  }

  nlohmann::json root_;
};

}  // namespace loupe::analysis::report
