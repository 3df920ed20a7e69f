#include "coordinator/http/openapi.h"

#include <google/protobuf/descriptor.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace loupe::coordinator::http {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using Json = nlohmann::ordered_json;

Json Ref(const std::string& name) { return {{"$ref", "#/components/schemas/" + name}}; }

// Protobuf's JSON mapping (protobuf.dev/programming-guides/json).
class Schemas {
 public:
  // Enters the message, and what it is made of.
  Json Of(const Descriptor& message) {
    const std::string& name = message.full_name();
    if (name == "google.protobuf.Timestamp") return {{"type", "string"}, {"format", "date-time"}};
    if (name == "google.protobuf.Duration") return {{"type", "string"}, {"pattern", "^-?[0-9]+(\\.[0-9]{1,9})?s$"}};
    if (name == "google.protobuf.Any") return {{"type", "object"}};
    if (entered_.insert(name).second) {
      Json properties = Json::object();
      for (int i = 0; i < message.field_count(); ++i) {
        const FieldDescriptor& field = *message.field(i);
        properties[field.json_name()] = OrNull(OfField(field));
      }
      all_[name] = {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
    }
    return Ref(name);
  }

  Json Take() {
    Json sorted = Json::object();
    for (auto& [name, schema] : all_) sorted[name] = std::move(schema);
    return sorted;
  }

 private:
  Json OfField(const FieldDescriptor& field) {
    if (field.is_map()) {
      return {{"type", "object"}, {"additionalProperties", OfOne(*field.message_type()->map_value())}};
    }
    if (field.is_repeated()) return {{"type", "array"}, {"items", OfOne(field)}};
    return OfOne(field);
  }

  Json OfOne(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Of(*field.message_type());
      case FieldDescriptor::CPPTYPE_ENUM:
        return OfEnum(*field.enum_type());
      case FieldDescriptor::CPPTYPE_BOOL:
        return {{"type", "boolean"}};
      case FieldDescriptor::CPPTYPE_STRING:
        if (field.type() == FieldDescriptor::TYPE_BYTES) return {{"type", "string"}, {"contentEncoding", "base64"}};
        return {{"type", "string"}};
      case FieldDescriptor::CPPTYPE_DOUBLE:
      case FieldDescriptor::CPPTYPE_FLOAT:
        return {{"oneOf", {Json{{"type", "number"}}, Json{{"enum", {"NaN", "Infinity", "-Infinity"}}}}}};
      case FieldDescriptor::CPPTYPE_INT32:
        if (field.name() == "page_size") return {{"type", "integer"}, {"format", "int32"}, {"minimum", 0}};
        return {{"type", "integer"}, {"format", "int32"}};
      case FieldDescriptor::CPPTYPE_UINT32:
        return {{"type", "integer"}, {"minimum", 0}};
      // As text: JavaScript's numbers have 53 bits.
      case FieldDescriptor::CPPTYPE_INT64:
        return {{"type", "string"}, {"pattern", "^-?[0-9]+$"}};
      case FieldDescriptor::CPPTYPE_UINT64:
        return {{"type", "string"}, {"pattern", "^[0-9]+$"}};
    }
    return Json::object();
  }

  // The mapping takes null for any field as its default.
  static Json OrNull(Json schema) {
    if (!schema.contains("type")) return {{"anyOf", {std::move(schema), Json{{"type", "null"}}}}};
    schema["type"] = {schema["type"], "null"};
    if (schema.contains("enum")) schema["enum"].push_back(nullptr);
    return schema;
  }

  static Json OfEnum(const EnumDescriptor& values) {
    Json names = Json::array();
    for (int i = 0; i < values.value_count(); ++i) names.push_back(values.value(i)->name());
    return {{"type", "string"}, {"enum", names}};
  }

  std::set<std::string> entered_;
  std::map<std::string, Json> all_;
};

Json JsonContent(Json schema) { return {{"application/json", {{"schema", std::move(schema)}}}}; }

Json Parameter(const char* name, const char* in, const char* pattern, bool required) {
  return {{"name", name}, {"in", in}, {"required", required}, {"schema", {{"type", "string"}, {"pattern", pattern}}}};
}

Json Answer(const char* what) { return {{"description", what}}; }

Json BinaryAnswer(const char* what) {
  return {{"description", what}, {"content", {{"*/*", {{"schema", {{"type", "string"}}}}}}}};
}

Json WithErrors(Json responses) {
  responses["default"] = {{"description", "An error"}, {"content", JsonContent(Ref("Error"))}};
  return responses;
}

constexpr char kSweepPattern[] = "^[a-z][a-z0-9-]{2,61}[a-z0-9]$";

Json OtherPaths(Schemas& schemas) {
  const Json sweep = Parameter("sweep", "path", kSweepPattern, true);
  const Json no_security = Json::array();
  Json paths;
  paths["/v1/session"] = {
      {"post",
       {{"operationId", "SignIn"},
        {"security", no_security},
        {"requestBody",
         {{"required", true},
          {"content",
           JsonContent(
               {{"type", "object"}, {"properties", {{"token", {{"type", "string"}}}}}, {"required", {"token"}}})}}},
        {"responses", WithErrors({{"204", Answer("Signed in; the answer sets a cookie")}})}}},
      {"get",
       {{"operationId", "WhoAmI"},
        {"responses",
         WithErrors(
             {{"200",
               {{"description", "Whose token the request carries"},
                {"content", JsonContent({{"type", "object"},
                                         {"properties",
                                          {{"name", {{"type", "string"}}}, {"role", {{"type", "string"}}}}}})}}}})}}},
      {"delete",
       {{"operationId", "SignOut"},
        {"security", no_security},
        {"responses", WithErrors({{"204", Answer("The cookie is gone")}})}}}};
  paths["/v1/sweeps/{sweep}/events"] = {
      {"get",
       {{"operationId", "WatchSweepEvents"},
        {"parameters", {sweep, Parameter("Last-Event-ID", "header", "^[0-9a-f]{12}-[0-9]+(\\.end)?$", false)}},
        {"responses", WithErrors({{"200",
                                   {{"description", "Server-sent events sweep, trials, reload and end (docs/http.md)"},
                                    {"content", {{"text/event-stream", {{"schema", {{"type", "string"}}}}}}}}},
                                  {"204", Answer("The sweep has ended, as the client knows")}})}}}};
  paths["/v1/sweeps/{sweep}/trials/{trial}/artifacts/{artifact}"] = {
      {"get",
       {{"operationId", "GetArtifact"},
        {"parameters",
         {sweep, Parameter("trial", "path", "^(0|[1-9][0-9]{0,17})$", true),
          Parameter("artifact", "path", "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$", true),
          Parameter("width", "query", "^(80|160|320|640)$", false)}},
        {"responses", WithErrors({{"200", BinaryAnswer("The file")},
                                  {"206", BinaryAnswer("A part of it")},
                                  {"304", Answer("The client has it")},
                                  {"416", Answer("There is no such part")}})}}}};
  paths["/v1/report"] = {
      {"post",
       {{"operationId", "RenderReport"},
        {"requestBody",
         {{"required", true}, {"content", JsonContent(schemas.Of(*v1::RenderReportRequest::descriptor()))}}},
        {"responses", WithErrors({{"200", BinaryAnswer("The report")}})}}}};
  paths["/metrics"] = {
      {"get",
       {{"operationId", "Metrics"}, {"responses", WithErrors({{"200", BinaryAnswer("Prometheus' text format")}})}}}};
  for (const char* path : {"/healthz", "/readyz"}) {
    paths[path] = {{"get",
                    {{"operationId", path + 1},
                     {"security", no_security},
                     {"responses",
                      {{"200", BinaryAnswer("The process answers")}, {"503", BinaryAnswer("It cannot serve now")}}}}}};
  }
  return paths;
}

}  // namespace

std::string OpenApiDocument(const Methods& methods) {
  Schemas schemas;
  Json paths = OtherPaths(schemas);
  for (const auto& [path, method] : methods.all()) {
    const std::string name = path.substr(path.rfind('/') + 1);
    paths[path] = {
        {"post",
         {{"operationId", name},
          {"requestBody",
           {{"required", true}, {"content", JsonContent(schemas.Of(*method.request_prototype->GetDescriptor()))}}},
          {"responses",
           WithErrors({{"200",
                        {{"description", "The answer"},
                         {"content", JsonContent(schemas.Of(*method.response_prototype->GetDescriptor()))}}}})}}}};
  }
  Json all = schemas.Take();
  all["Error"] = {{"type", "object"},
                  {"properties",
                   {{"code", {{"type", "string"}}},
                    {"message", {{"type", "string"}}},
                    {"details", {{"type", "array"}, {"items", {{"type", "object"}}}}}}},
                  {"required", {"code", "message"}}};
  const Json document = {
      {"openapi", "3.1.0"},
      {"info",
       {{"title", "Loupe coordinator"},
        {"version", "v1"},
        {"description", "Methods in Connect's unary form, with messages in protobuf's JSON mapping; docs/http.md."}}},
      {"security", {Json{{"token", Json::array()}}, Json{{"cookie", Json::array()}}}},
      {"paths", std::move(paths)},
      {"components",
       {{"schemas", std::move(all)},
        {"securitySchemes",
         {{"token", {{"type", "http"}, {"scheme", "bearer"}}},
          {"cookie", {{"type", "apiKey"}, {"in", "cookie"}, {"name", "loupe_PORT"}}}}}}}};
  return document.dump(2) + "\n";
}

}  // namespace loupe::coordinator::http
