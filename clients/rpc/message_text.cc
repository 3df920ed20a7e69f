#include "clients/rpc/message_text.h"

#include <vector>

#include "common/text.h"

namespace loupe::clients::rpc {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

bool IsUtf8(const std::string& text) { return FindNotUtf8(text) == std::string::npos; }

}  // namespace

std::string FieldNotUtf8(const Message& message) {
  const google::protobuf::Reflection& fields = *message.GetReflection();
  std::vector<const FieldDescriptor*> set;
  fields.ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    const int count = field->is_repeated() ? fields.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      std::string inner;
      if (field->type() == FieldDescriptor::TYPE_STRING) {
        std::string copy;
        const std::string& text = field->is_repeated() ? fields.GetRepeatedStringReference(message, field, i, &copy)
                                                       : fields.GetStringReference(message, field, &copy);
        if (IsUtf8(text)) continue;
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        inner = FieldNotUtf8(field->is_repeated() ? fields.GetRepeatedMessage(message, field, i)
                                                  : fields.GetMessage(message, field));
        if (inner.empty()) continue;
        if (field->is_map()) inner.clear();  // "key" and "value" say nothing
      } else {
        break;
      }
      return field->name() + (inner.empty() ? "" : "." + inner);
    }
  }
  return "";
}

void EscapeFieldsNotUtf8(Message& message) {
  const google::protobuf::Reflection& fields = *message.GetReflection();
  std::vector<const FieldDescriptor*> set;
  fields.ListFields(message, &set);
  for (const FieldDescriptor* field : set) {
    const int count = field->is_repeated() ? fields.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      if (field->type() == FieldDescriptor::TYPE_STRING) {
        std::string text =
            field->is_repeated() ? fields.GetRepeatedString(message, field, i) : fields.GetString(message, field);
        if (IsUtf8(text)) continue;
        if (field->is_repeated()) {
          fields.SetRepeatedString(&message, field, i, ToUtf8(text));
        } else {
          fields.SetString(&message, field, ToUtf8(text));
        }
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        EscapeFieldsNotUtf8(field->is_repeated() ? *fields.MutableRepeatedMessage(&message, field, i)
                                                 : *fields.MutableMessage(&message, field));
      } else {
        break;
      }
    }
  }
}

}  // namespace loupe::clients::rpc
