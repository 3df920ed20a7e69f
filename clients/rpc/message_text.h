// Text in messages. A proto3 string that is not UTF-8 is sent, but nobody can read the message that holds it: what goes
// out is looked at first.
#pragma once

#include <string>

#include "google/protobuf/message.h"

namespace loupe::clients::rpc {

// The path of the first string field (map keys and values, nested and repeated ones too) that is not UTF-8, such as
// "spec.factors.key"; empty if all are.
std::string FieldNotUtf8(const google::protobuf::Message& message);

// Makes every string field UTF-8 (ToUtf8: bytes that are none as "\xe9").
void EscapeFieldsNotUtf8(google::protobuf::Message& message);

}  // namespace loupe::clients::rpc
